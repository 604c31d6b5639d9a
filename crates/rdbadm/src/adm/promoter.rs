//! `promoter`: runs one, and tells and orders what one does.

use std::fmt::Write;
use std::path::PathBuf;

use rdb_config::Fencing;

use super::Command;
use super::plan::Item;
use crate::out;
use crate::promoter::files::Files;
use crate::promoter::run::{self, Post};
use crate::promoter::settings::{self, DEFAULT_FILE, Settings};

/// No promoter runs: what init scripts answer to `status` then.
const EXIT_NOT_RUNNING: u8 = 3;

impl Command<'_> {
    pub(super) fn promoter(&self, items: &[Item]) -> u8 {
        let path = self
            .path("file")
            .unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let file = match settings::read(&path) {
            Ok(file) => file,
            Err(error) => return self.fails(&error, 10),
        };
        let has = |item: &&Item| file.resources.contains_key(&item.resource.name);
        let is_asked =
            !self.objects().is_empty() && !self.objects().iter().any(|word| word == "all");
        if is_asked && let Some(item) = items.iter().find(|item| !has(item)) {
            let name = &item.resource.name;
            return self.fails(
                &format!("{}: there is no [resources.{name}]", path.display()),
                10,
            );
        }
        let here = |name: &&String| items.iter().any(|item| item.resource.name == **name);
        if self.has("check-config")
            && !is_asked
            && let Some(name) = file.resources.keys().find(|name| !here(name))
        {
            let message = format!(
                "{}: resource {name} is not configured for this node",
                path.display()
            );
            return self.fails(&message, 10);
        }
        let posts: Vec<(Post, &Item)> = items
            .iter()
            .filter(has)
            .map(|item| (self.post(item, &file.resources[&item.resource.name]), item))
            .collect();
        self.promote_as_asked(&posts, &path)
    }

    fn promote_as_asked(&self, posts: &[(Post, &Item)], path: &std::path::Path) -> u8 {
        if self.has("check-config") {
            for (post, item) in posts {
                out::line(&described(&post.settings, item));
            }
            return 0;
        }
        if self.has("status") {
            return posts.iter().map(|(post, _)| told(post)).max().unwrap_or(0);
        }
        for (option, is) in [("evict", true), ("unevict", false)] {
            if self.has(option) {
                return self.evict(posts, is);
            }
        }
        if self.has("dry-run") {
            for (post, _) in posts {
                out::line(&format!("{}: {}", post.resource, post.would_do()));
            }
            return 0;
        }
        let [(post, _)] = posts else {
            let message = format!(
                "a promoter is for one resource; {} has {}",
                path.display(),
                posts.len()
            );
            return self.fails(&message, 1);
        };
        match run::run(post) {
            Ok(true) => 0,
            Ok(false) => self.fails(&format!("{} is still Primary here", post.resource), 1),
            Err(error) => self.fails(&format!("{}: {error}", post.resource), 20),
        }
    }

    fn fails(&self, message: &str, code: u8) -> u8 {
        out::error(&format!("{}: {message}", self.program));
        code
    }

    fn post(&self, item: &Item, settings: &Settings) -> Post {
        let run_dir = self.path("run-dir").expect("it has a default");
        let resource = item.resource.name.clone();
        let files = Files::new(&run_dir, &self.state_dir(), &resource);
        Post {
            minors: item
                .resource
                .volumes
                .iter()
                .map(|volume| volume.minor)
                .collect(),
            node: self.own_node().unwrap_or_default(),
            peer: item.resource.peer.name.clone(),
            settings: settings.clone(),
            limits: self.executor().limits,
            rdbadm: self.same_program(),
            resource,
            run_dir,
            files,
        }
    }

    /// This program with the options that say whose resources are meant.
    fn same_program(&self) -> Vec<String> {
        let own = std::env::current_exe();
        let own = own.map_or_else(|_| "rdbadm".to_owned(), |path| path.display().to_string());
        let mut words = vec![own];
        for option in ["config-file", "run-dir"] {
            if let Some(path) = self.path(option) {
                // It is run in another directory.
                let path = std::path::absolute(&path).unwrap_or(path);
                words.push(format!("--{option}={}", path.display()));
            }
        }
        for option in ["node", "peer"] {
            let given = self.args.get_one::<String>(option);
            words.extend(given.map(|name| format!("--{option}={name}")));
        }
        words
    }

    fn evict(&self, posts: &[(Post, &Item)], is: bool) -> u8 {
        for (post, _) in posts {
            let name = &post.resource;
            if self.has("dry-run") {
                out::line(&format!(
                    "{name}: {}",
                    if is { "evicts" } else { "ends the eviction" }
                ));
                continue;
            }
            if let Err(error) = post.files.evict(is) {
                return self.fails(&format!("{name}: can not note it: {error}"), 20);
            }
            out::line(&match (is, post.files.is_locked()) {
                (true, true) => format!(
                    "{name}: evicted; what runs here is stopped, until 'promoter --unevict {name}'"
                ),
                (true, false) => format!(
                    "{name}: evicted, until 'promoter --unevict {name}'; no promoter runs here"
                ),
                (false, _) => format!("{name}: may be promoted here"),
            });
        }
        0
    }
}

/// A line of `--status`; 3 if no promoter runs.
fn told(post: &Post) -> u8 {
    let record = post.files.read();
    let (is_running, is_evicted) = (post.files.is_locked(), post.files.is_evicted());
    let mut line = format!("{}: ", post.resource);
    match &record {
        _ if !is_running => line.push_str("no promoter runs here"),
        Some(record) => line.push_str(&record.doing),
        None => line.push_str("the promoter begins"),
    }
    if let Some(record) = &record {
        let of = post.settings.start.len();
        // It only fails when there is no memory.
        let _ = write!(line, "; {} of {of} services started", record.held.started);
        if is_running {
            let _ = write!(line, "; process {}", record.pid);
        }
    }
    if is_evicted {
        line.push_str("; evicted");
    }
    out::line(&line);
    if is_running { 0 } else { EXIT_NOT_RUNNING }
}

/// A line of `--check-config`: what holds for a resource when its peer is gone.
fn described(settings: &Settings, item: &Item) -> String {
    let resource = &item.resource;
    let mut disks = resource
        .volumes
        .iter()
        .map(|volume| volume.disk_options.fencing);
    let fences = disks.any(|fencing| fencing != Fencing::DontCare);
    let has_handler = item.handlers.commands.contains_key("fence-peer");
    let alone = match (fences, has_handler, settings.accepts_split_brain()) {
        (true, true, _) => "without its peer it asks fence-peer",
        (true, false, _) => "there is no fence-peer: without its peer it is never promoted",
        (false, _, true) => {
            "no fencing: without its peer it is promoted, and split brain is accepted"
        }
        (false, _, false) => "no fencing: without its peer it is never promoted",
    };
    let mut line = format!(
        "{}: {} services; {alone}",
        resource.name,
        settings.start.len()
    );
    let names = [&resource.me.names, &resource.peer.names];
    let is_known = |node: &&String| names.iter().any(|names| names.contains(node));
    for node in settings
        .preferred_nodes
        .iter()
        .filter(|node| !is_known(node))
    {
        // It only fails when there is no memory.
        let _ = write!(
            line,
            "; '{node}' of preferred-nodes is neither of its nodes"
        );
    }
    line
}
