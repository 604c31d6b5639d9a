//! Commands of DRBD's for scripts and experts: `hidden-commands`, `sh-b-pri`, `check-resize`, and what `--stacked` comes to.

use std::thread;
use std::time::Duration;

use rdb_config::{Config, Section};

use super::plan::Item;
use super::{Command, select};
use crate::out;
use crate::step::Step;
use crate::verbs::{Does, Own, VERBS, Verb};

/// How often a promotion at the start of a node is tried, and how long it waits in between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

impl Command<'_> {
    /// `hidden-commands`: what `help` does not list, by whom it is for.
    pub(super) fn hidden_commands(&self) -> u8 {
        let is_hidden = |verb: &&Verb| verb.adm.is_some_and(|adm| adm.is_hidden);
        let is_handler = |verb: &Verb| matches!(verb.does, Does::Handler);
        let is_script = |verb: &Verb| verb.name.starts_with("sh-");
        let mut text = String::new();
        let group = |verb: &Verb| match (is_script(verb), is_handler(verb)) {
            (true, _) => 0,
            (_, true) => 1,
            _ => 2,
        };
        let heads = [
            "These additional commands might be useful for writing\nnifty shell scripts around",
            "These commands are what DRBD's driver calls to\nhave handlers run; they run the configured one, here and now, in",
            "These commands ought to be used by experts and developers of",
        ];
        for (number, head) in heads.into_iter().enumerate() {
            text += &format!("\n{head} {}:\n\n", self.program);
            let verbs = VERBS
                .iter()
                .filter(is_hidden)
                .filter(|verb| group(verb) == number);
            let names: Vec<&str> = verbs.map(|verb| verb.name).collect();
            for pair in names.chunks(2) {
                let row: String = pair.iter().map(|name| format!("{name:<35}")).collect();
                text += &format!(" {}\n", row.trim_end());
            }
        }
        out::print(&(text + "\n"));
        0
    }

    /// A command with `--stacked`, as DRBD does it where nothing is stacked.
    pub(super) fn stacked(&self) -> u8 {
        let own = self.own();
        if !self.verb.is_configured() && own != Some(Own::Status) {
            out::error(&format!(
                "{}: {} is about all resources; it has no stacked mode",
                self.program, self.verb.name
            ));
            return 1;
        }
        let configured = match self.configured() {
            Ok(configured) => configured,
            Err(code) => return code,
        };
        let words = self.objects();
        match own {
            Some(Own::ShNop | Own::ShResources | Own::WaitConInt) => return 0,
            Some(Own::ShModParms | Own::Dump | Own::DumpXml) if words.is_empty() => {
                return self.run_configured(&configured);
            }
            _ => {}
        }
        let target = self.verb.adm.map(|adm| adm.target);
        let target = target.expect("the parser knows only commands of rdbadm");
        let error = select::stacked(&configured.config, &configured.node, target, &words);
        out::error(&error.to_string());
        1
    }

    /// `check-resize`: what is to be done for a disk that has grown. Nothing is, before devices are resized.
    pub(super) fn check_resize(&self, items: &[Item]) -> u8 {
        if self.has("verbose") {
            for item in items {
                out::line(&format!(
                    "{}: nothing to do: devices are not resized yet",
                    item.resource.name
                ));
            }
        }
        0
    }

    /// `sh-b-pri`: promotes what `become-primary-on` says of this node.
    pub(super) fn become_primary(&self, config: &Config, items: &[Item]) -> u8 {
        let Some(node) = self.own_node() else {
            return 20;
        };
        let mut executor = self.executor();
        let mut worst = 0;
        for item in items {
            if !is_to_be_primary(config, &item.resource.name, &node) {
                continue;
            }
            let steps: Vec<Step> = item.volumes().map(|volume| item.primary(volume)).collect();
            for step in &steps {
                let mut code = executor.run(step);
                for _ in 1..TRIES {
                    if code == 0 || executor.is_unasked {
                        break;
                    }
                    thread::sleep(PAUSE);
                    code = executor.run(step);
                }
                worst = code.max(worst);
            }
        }
        worst
    }
}

/// Whether `become-primary-on` names this node, or both.
fn is_to_be_primary(config: &Config, resource: &str, node: &str) -> bool {
    let Ok(resource) = config.resource(resource) else {
        return false;
    };
    let sections = resource.inherited();
    let settings = sections.get(Section::Startup).iter().rev();
    let mut named = settings.filter(|setting| setting.name == "become-primary-on");
    named.next().is_some_and(|setting| {
        let mut names = setting.value.split(' ');
        names.any(|name| name == node || name == "both")
    })
}
