//! `rdbadm`: reads drbd.conf, plans steps, has them carried out.

mod adjust;
mod adjust_check;
mod adjust_given_up;
mod adjust_run;
mod configured;
mod doctor;
mod explain;
pub(crate) mod facts;
mod given;
mod handler;
mod hidden;
pub(crate) mod plan;
mod promoter;
mod restart;
mod run;
mod select;
mod settings;
mod shell;
mod show;
mod snapshot;
mod spelling;
mod split_brain;
mod status_watch;
pub(crate) mod table;
mod watch;

use std::cell::Cell;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use rdb_config::{Config, ConfigError, DumpStyle, GlobalOptions};
use rdb_control::{HandlersShown, Limits, Op, ResourceShown, VerifyPart};

use self::plan::{Item, WaitGiven};
use self::run::{Extent, Run};
use self::select::Selected;
pub(crate) use self::show::show_status;
pub(crate) use self::watch::check_rdb;
use crate::complete;
use crate::exec::{Executor, Others, Trouble};
use crate::out;
use crate::step::{Action, Family, Query, Step};
use crate::threads;
use crate::verbs::{self, Does, Flag, Mark, Own, Target, Verb};

/// Runs `rdbadm` with the words after its name; the result is the exit status.
pub(crate) fn main(program: &str, family: Family, words: Vec<String>) -> u8 {
    let spelled = spelling::old_force(&words);
    let words = spelling::modern(words);
    if words.iter().any(|word| word == "--version" || word == "-V") {
        out::print(&version());
        return 0;
    }
    let argv = std::iter::once(program.to_owned()).chain(words);
    let matches = match table::command(program).try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) => return usage_error(program, &error),
    };
    let Some((name, sub)) = matches.subcommand() else {
        return 1;
    };
    let verb = verbs::of_adm(name).expect("the parser knows only the table's commands");
    Command {
        program,
        family,
        verb,
        args: sub,
        spelled,
        limits: Cell::default(),
    }
    .run()
}

/// `--version`, in the form that cluster agents `eval` (`docs/spec/admin.md`, section 3.8).
fn version() -> String {
    format!(
        "DRBDADM_BUILDTAG=rdb\\ {0}\nDRBDADM_API_VERSION=1\nDRBD_KERNEL_VERSION_CODE=0x08040b\n\
         DRBDADM_VERSION_CODE=0x08040b\nDRBDADM_VERSION=8.4.11\nRDB_VERSION={0}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// DRBD's words for what the parser found; the exit status.
fn usage_error(program: &str, error: &clap::Error) -> u8 {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => word.clone(),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::DisplayHelp => {
            out::print(&error.render().to_string());
            return 0;
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            out::print(&table::command(program).render_help().to_string());
        }
        ErrorKind::InvalidSubcommand => {
            let name = word(ContextKind::InvalidSubcommand);
            out::error(&format!("{program}: Unknown command '{name}'"));
            if verbs::is_not_served(&name) {
                out::error("It is a command of DRBD's that rdb does not serve yet.");
            } else if verbs::of_setup(&name).is_some() {
                out::error(&format!("There is 'rdbsetup {name}'."));
            } else if let Some(ContextValue::Strings(near)) =
                error.get(ContextKind::SuggestedSubcommand)
                && let Some(near) = meant(&name, near)
            {
                out::error(&format!("Did you mean '{near}'?"));
            }
        }
        ErrorKind::UnknownArgument => {
            let option = word(ContextKind::InvalidArg);
            let near = word(ContextKind::SuggestedArg);
            let near = match near.is_empty() {
                true => format!("try '{program} help'"),
                false => format!("Did you mean '{near}'?"),
            };
            // (Words are taken for options, too, where a command has none.)
            let what = match option.starts_with('-') {
                true => "unrecognized option",
                false => "unexpected word",
            };
            out::error(&format!("{program}: {what} '{option}'\n{near}"));
        }
        _ => out::error(error.render().to_string().trim_end()),
    }
    1
}

/// Which of the suggested commands a word most likely means. The nearest comes last; but what the word begins is nearer than an old
/// name that is a letter shorter.
fn meant<'a>(word: &str, near: &'a [String]) -> Option<&'a String> {
    let is_begun = |name: &&String| name.starts_with(word) && !verbs::is_alias(name);
    near.iter().rfind(is_begun).or_else(|| near.last())
}

/// One call.
struct Command<'a> {
    program: &'a str,
    family: Family,
    verb: &'static Verb,
    args: &'a ArgMatches,
    /// The older name by which `--force` was given, which a step has, too.
    spelled: Option<&'static str>,
    /// Those of the configuration, as soon as it is read.
    limits: Cell<Limits>,
}

/// The configuration that the call works with.
struct Configured {
    config: Config,
    /// The file that it was read from, as an absolute path; nothing if it was piped in.
    path: Option<PathBuf>,
    node: String,
    peer: Option<String>,
}

impl Command<'_> {
    fn run(&self) -> u8 {
        if let Err(code) = self.check_globals() {
            return code;
        }
        match self.own() {
            Some(Own::Completions) => return self.completions(),
            Some(Own::Man) => return self.man(),
            Some(Own::HiddenCommands) => return self.hidden_commands(),
            _ if self.has("stacked") => return self.stacked(),
            Some(Own::Proc) => return self.proc(),
            Some(Own::Overview) => return self.overview(),
            Some(Own::Status) => return self.status(),
            Some(Own::Metrics) => return self.metrics(),
            Some(Own::Check) => return self.check(),
            Some(Own::Explain) => return self.explain(),
            Some(Own::Doctor) => return self.doctor(),
            Some(Own::Events2) => return self.events2(),
            Some(Own::Restart) => return self.restart(),
            _ => {}
        }
        match self.configured() {
            Ok(configured) => {
                let GlobalOptions {
                    cmd_timeout_short_s,
                    cmd_timeout_medium_s,
                    cmd_timeout_long_s,
                    ..
                } = configured.config.global.options;
                self.limits.set(Limits::of_seconds(
                    cmd_timeout_short_s,
                    cmd_timeout_medium_s,
                    cmd_timeout_long_s,
                ));
                self.run_configured(&configured)
            }
            Err(code) => code,
        }
    }

    /// The command, if it has code of its own.
    fn own(&self) -> Option<Own> {
        match self.verb.does {
            Does::Own(own) => Some(own),
            _ => None,
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.args.get_one::<PathBuf>(name).cloned()
    }

    /// Whether a switch of this command is set; false if the command does not have it.
    fn has(&self, name: &str) -> bool {
        matches!(self.args.try_get_one::<bool>(name), Ok(Some(true)))
    }

    fn objects(&self) -> Vec<String> {
        let objects = self.args.try_get_many::<String>("objects").ok().flatten();
        objects
            .map(|objects| objects.cloned().collect())
            .unwrap_or_default()
    }

    fn executor(&self) -> Executor {
        let run_dir = self.path("run-dir").expect("it has a default");
        let mut executor = Executor::new(self.program.to_owned(), self.family, run_dir);
        executor.node = self.args.get_one::<String>("node").cloned();
        executor.meant = match self.verb.is_configured() {
            true => self.own_node(),
            false => executor.node.clone(),
        };
        executor.others = Others {
            setup: self.path("drbdsetup"),
            meta: self.path("drbdmeta"),
        };
        executor.dry_run = self.has("dry-run");
        executor.verbose = self.has("verbose");
        executor.limits = self.limits.get();
        if let Some(seconds) = self.args.get_one::<u32>("timeout") {
            executor.limits = executor.limits.with_timeout(*seconds);
        }
        executor
    }

    /// The node that the command is for.
    fn own_node(&self) -> Option<String> {
        let given = self.args.get_one::<String>("node").cloned();
        given.or_else(crate::node_name)
    }

    fn run_configured(&self, configured: &Configured) -> u8 {
        let Configured { config, node, .. } = configured;
        let target = self.verb.adm.map_or(Target::None, |adm| adm.target);
        let words = match target {
            Target::All => shell::of_all(&self.objects()),
            // The first word is what is written.
            _ if self.verb.is(Own::SetGi) => self.objects().into_iter().skip(1).collect(),
            _ => self.objects(),
        };
        match self.own() {
            Some(Own::ShNop) => return 0,
            Some(Own::ShResources) => {
                let names: Vec<&str> = config.resources_of(node).map(|r| r.name.as_str()).collect();
                if !names.is_empty() {
                    out::line(&names.join(" "));
                }
                return 0;
            }
            Some(Own::ShModParms) => return shell::module_parameters(config),
            Some(Own::WaitConInt) => return self.wait_con_int(configured),
            _ => {}
        }
        // The file is printed whatever host it is for, and whether or not there is a resource in it.
        if matches!(self.own(), Some(Own::Dump | Own::DumpXml))
            && (words.is_empty() || words.iter().any(|word| word == "all"))
        {
            return self.dump(configured, None);
        }
        let selected = match select::select(config, node, self.verb.name, target, &words) {
            Ok(selected) => selected,
            Err(error) => {
                if error == select::SelectError::NoNames {
                    let usage = format!(
                        "USAGE: {} {} [OPTION...] {{all | RES...}}\n",
                        self.program, self.verb.name
                    );
                    out::error(&usage);
                }
                out::error(&error.to_string());
                return 1;
            }
        };
        match self.own() {
            Some(Own::Dump | Own::DumpXml) => self.dump(configured, Some(&selected)),
            // It must work although the file now says something that cannot run.
            Some(Own::Down) => {
                self.in_turn(selected.iter().map(|s| down(&s.resource.name)).collect())
            }
            Some(Own::ShStatus) => {
                let (items, failed) = self.items(configured, &selected);
                let code = self.sh_status(&items, configured.path.as_deref());
                code.max(failed)
            }
            _ => {
                let (items, failed) = self.items(configured, &selected);
                let code = if items.is_empty() {
                    0
                } else {
                    self.run_items(config, &items)
                };
                code.max(failed)
            }
        }
    }

    /// Whether the command makes a node listen at its address.
    fn needs_address(&self, config: &Config) -> bool {
        self.verb.is_marked(Mark::Listens)
            && !config.global.options.disable_ip_verification
            && !self.has("dry-run")
    }

    /// What each resource means here, before anything is done. One that can not run does not stop the others; the
    /// number is the exit status of the worst, 0 if all can.
    fn items(&self, configured: &Configured, selected: &[Selected<'_>]) -> (Vec<Item>, u8) {
        let Configured {
            config,
            path,
            node,
            peer,
        } = configured;
        let mut items = Vec::new();
        let mut failed = 0;
        for Selected { resource, volume } in selected {
            let resolved = if self.verb.is_harmless() {
                resource.described_for(node, peer.as_deref())
            } else {
                resource.for_host_with_peer(node, peer.as_deref())
            };
            let absent = (self.needs_address(config) && resolved.is_ok())
                .then(|| resource.address_not_here(node))
                .flatten();
            match absent.map_or(resolved, Err) {
                Ok(mut resolved) => {
                    // (`sh-udev` has to know whether a resource's name is enough to mean the volume.)
                    let is_numbered = config.global.options.udev_always_use_vnr;
                    if is_numbered && !self.verb.is(Own::ShUdev) {
                        resolved.volumes.iter_mut().for_each(|v| v.implicit = false);
                    }
                    let written = settings::written(config, resource, &resolved, node);
                    let peers = resolved.peer.names.clone();
                    let handlers = HandlersShown::new(&resolved.handlers, path.clone(), peers);
                    items.push(Item {
                        resource: resolved,
                        handlers,
                        written,
                        volume: *volume,
                    });
                }
                Err(error) => failed = config_error(&error).max(failed),
            }
        }
        (items, failed)
    }

    fn run_items(&self, config: &Config, items: &[Item]) -> u8 {
        let force = self.has("force");
        match self.verb.does {
            Does::Own(Own::Up) => return self.up(items),
            Does::Own(Own::Adjust | Own::AdjustWithProgress) => {
                let may_wait = config.global.options.disable_ip_verification;
                return self.adjust(items, may_wait);
            }
            Does::Own(Own::ShResource) => {
                for item in items {
                    out::line(&item.resource.name);
                }
                return 0;
            }
            Does::Own(Own::CheckResize) => return self.check_resize(items),
            Does::Own(Own::ShBPri) => return self.become_primary(config, items),
            Does::Own(Own::ShUdev) => {
                return shell::udev(items, config.global.options.udev_always_use_vnr);
            }
            Does::Own(Own::ShLrOf) => return shell::lower_resource(),
            Does::Handler => return self.run_handlers(items),
            Does::Own(Own::SplitBrain) => return self.split_brain(items),
            Does::Own(Own::Promoter) => return self.promoter(items),
            Does::Fact(fact) => {
                for item in items {
                    item.volumes()
                        .for_each(|volume| out::line(&fact(item, volume)));
                }
                return 0;
            }
            _ => {}
        }
        let is_promotion = self
            .verb
            .adm
            .is_some_and(|adm| adm.flags.contains(&Flag::ForcePrimary));
        if is_promotion && force && !self.may_force(items) {
            return 1;
        }
        self.tell_what_is_discarded(items);
        let shown = match self.running_besides(items) {
            Ok(shown) => shown,
            Err(trouble) => return trouble.tell(self.program),
        };
        let mut steps = Vec::new();
        if self.verb.is(Own::Snapshot) {
            return self.in_turn(self.snapshots(items));
        }
        for item in items {
            match self.own() {
                Some(Own::NewResource) => steps.push(item.new_resource()),
                Some(Own::ResourceOptions) => steps.push(item.resource_options(false)),
                Some(Own::NetOptions) => steps.push(item.net_options(false)),
                Some(Own::Connect) => {
                    steps.push(item.connect(self.has("discard-my-data"), self.has("tentative")));
                }
                Some(Own::Disconnect) => steps.push(item.disconnect(force)),
                _ => {
                    for volume in item.volumes() {
                        self.volume_steps(item, volume, &mut steps);
                    }
                    for minor in item.left_minors(&shown) {
                        self.minor_step(item, minor, &mut steps);
                    }
                }
            }
        }
        match self.with_given(steps) {
            Ok(steps) => self.in_turn(steps),
            Err(code) => code,
        }
    }

    /// What runs, if the command is about all volumes that the daemon has, not those of the configuration alone: who gives a
    /// resource up means what is left of an older configuration, too.
    fn running_besides(&self, items: &[Item]) -> Result<Vec<ResourceShown>, Trouble> {
        let takes_down =
            matches!(self.verb.does, Does::Op(_)) && self.verb.is_marked(Mark::TakesDown);
        if takes_down && items.iter().any(|item| item.volume.is_none()) {
            let shown = self.executor().show();
            // What is only printed needs no daemon.
            return shown.or_else(|trouble| match self.has("dry-run") {
                true => Ok(Vec::new()),
                false => Err(trouble),
            });
        }
        Ok(Vec::new())
    }

    /// Whether a forced promotion is meant: it may cost data that are newer elsewhere.
    fn may_force(&self, items: &[Item]) -> bool {
        if self.has("dry-run") || self.has("yes-lose-newer-data") {
            return true;
        }
        let mut executor = self.executor();
        items.iter().all(|item| {
            item.volumes()
                .all(|volume| executor.may_force(&item.resource.name, volume.minor))
        })
    }

    /// The step of a command that is the same for every device.
    fn minor_step(&self, item: &Item, minor: u32, steps: &mut Vec<Step>) {
        if let Does::Op(op) = self.verb.does {
            let switch = self.verb.switch().filter(|switch| self.has(switch));
            let mut step = item.on_minor(self.verb.name, minor, switch, op);
            if let Some(typed) = self.spelled.filter(|_| switch.is_some()) {
                step.argv.pop();
                step.argv.push(typed.to_owned());
            }
            steps.push(step);
        }
    }

    fn volume_steps(
        &self,
        item: &Item,
        volume: &rdb_config::ResolvedVolume,
        steps: &mut Vec<Step>,
    ) {
        match self.verb.does {
            Does::Op(_) => self.minor_step(item, volume.minor, steps),
            Does::OpOrMeta(op, command) => {
                steps.push(item.or_meta(self.verb.name, volume, op, command));
            }
            Does::Query(query) => {
                let query = if self.has("json") {
                    Query::GiJson
                } else {
                    query
                };
                steps.push(item.query(self.verb.name, volume, query));
            }
            Does::Meta(command) => steps.extend(item.meta(volume, command(self.has("force")))),
            Does::Own(Own::NewMinor) => steps.push(item.new_minor(volume)),
            Does::Own(Own::SetGi) => {
                let gi = self.objects().into_iter().next().unwrap_or_default();
                steps.extend(item.set_gi(volume, &gi, self.has("force")));
            }
            Does::Own(Own::Attach) => steps.extend(item.attach(volume)),
            Does::Own(Own::DiskOptions) => steps.push(item.disk_options(volume, false)),
            Does::Own(wait @ (Own::WaitConnect | Own::WaitSync)) => {
                steps.push(item.wait(wait == Own::WaitSync, volume, &self.wait_given()));
            }
            Does::Own(Own::Verify) => {
                let sector = |name| self.args.get_one::<u64>(name).copied();
                let (start, stop) = (sector("start"), sector("stop"));
                steps.push(item.verify(volume, VerifyPart { start, stop }));
            }
            // The others have no steps of volumes.
            Does::Fact(_) | Does::Handler | Does::Own(_) => {}
        }
    }

    fn wait_given(&self) -> WaitGiven {
        let seconds = |name| self.args.get_one::<u32>(name).copied();
        WaitGiven {
            wfc_s: seconds("wfc-timeout"),
            degr_wfc_s: seconds("degr-wfc-timeout"),
            outdated_wfc_s: seconds("outdated-wfc-timeout"),
            wait_after_sb: self
                .args
                .get_one::<String>("wait-after-sb")
                .map(|word| word == "yes"),
        }
    }

    /// Steps one after the other; the worst exit status. A failed step ends its resource, a very bad one all.
    fn in_turn(&self, steps: Vec<Step>) -> u8 {
        let mut executor = self.executor();
        let mut run = Run::new(Extent::Everything);
        run.steps(&mut executor, &steps);
        run.worst
    }

    /// All resources' first stages, then all second ones, then all third ones. A failed step ends its resource and no other; how much
    /// of it, `extent` says. The exit status is 1 whichever step it was, as drbdadm has it.
    fn staged(&self, plans: Vec<[Vec<Step>; 3]>, extent: Extent) -> u8 {
        let mut executor = self.executor();
        let mut run = Run::new(extent);
        for stage in 0..3 {
            let steps: Vec<Step> = plans.iter().flat_map(|plan| plan[stage].clone()).collect();
            if !run.steps(&mut executor, &steps) {
                break;
            }
        }
        match run.worst {
            0 => 0,
            _ => executor.own_code.max(1),
        }
    }

    /// A volume may be brought up beside others of its resource: then what is there already is left as it is.
    fn up(&self, items: &[Item]) -> u8 {
        let shown = if items.iter().any(|item| item.volume.is_some()) {
            match self.executor().show() {
                Ok(shown) => shown,
                // What is only printed needs no daemon.
                Err(_) if self.has("dry-run") => Vec::new(),
                Err(trouble) => return trouble.tell(self.program),
            }
        } else {
            Vec::new()
        };
        let plan = |item: &Item| {
            let running = shown.iter().find(|r| r.name == item.resource.name);
            match running.filter(|r| item.joins(r)) {
                Some(running) => adjust::adjust(item, Some(running)),
                None => item.up(),
            }
        };
        self.staged(items.iter().map(plan).collect(), Extent::Resource)
    }

    /// `dump` and `dump-xml` of some resources, or of the whole file.
    fn dump(&self, configured: &Configured, selected: Option<&[Selected<'_>]>) -> u8 {
        let Configured { config, node, .. } = configured;
        let style = DumpStyle {
            inherited: self.has("dry-run") || self.has("verbose"),
            hide_secrets: self.has("hide-secrets"),
            always_global: self.has("verbose"),
        };
        if self.has("json") {
            return Self::dump_json(configured, selected, style);
        }
        let is_xml = self.verb.is(Own::DumpXml);
        let Some(selected) = selected else {
            out::print_written(&if is_xml {
                config.dump_xml(style)
            } else {
                config.dump(node, style)
            });
            return 0;
        };
        for Selected { resource, .. } in selected {
            out::print_written(&if is_xml {
                config.dump_xml_resource(resource, style)
            } else {
                config.dump_resource(resource, node, style)
            });
        }
        0
    }

    fn restart(&self) -> u8 {
        let force = self.has("force");
        if self.has("dry-run") {
            let force = if force { " --force" } else { "" };
            out::line(&format!("{} restart{force}", self.family.program("adm")));
            return 0;
        }
        let run_dir = self.path("run-dir").expect("it has a default");
        let executor = self.executor();
        if let Some(trouble) = executor.anothers_daemon() {
            return trouble.tell(self.program);
        }
        let limits = executor.limits;
        restart::run(self.program, &run_dir, limits, self.path("program"), force)
    }

    /// Waits for all resources at once; typing `yes` ends it.
    fn wait_con_int(&self, configured: &Configured) -> u8 {
        let selected: Vec<Selected<'_>> = configured
            .config
            .resources_of(&configured.node)
            .map(|resource| Selected {
                resource,
                volume: None,
            })
            .collect();
        let (items, failed) = self.items(configured, &selected);
        let steps: Vec<Step> = items
            .iter()
            .flat_map(|item| {
                item.volumes()
                    .map(|v| item.wait(false, v, &WaitGiven::default()))
            })
            .collect();
        if self.has("dry-run") {
            return self.in_turn(steps).max(failed);
        }
        if steps.is_empty() {
            return failed;
        }
        let reads = threads::start(|| {
            let mut answer = String::new();
            // Standard input may end at once; only the word ends the wait.
            while std::io::stdin()
                .read_line(&mut answer)
                .is_ok_and(|read| read > 0)
            {
                if answer.trim() == "yes" {
                    std::process::exit(0);
                }
                answer.clear();
            }
        });
        if let Err(error) = reads {
            return Trouble::new(error.to_string()).tell(self.program);
        }
        out::error("Waiting for the peers of all resources; to abort waiting enter 'yes'");
        let waits: Vec<_> = steps
            .into_iter()
            .map(|step| {
                let mut executor = self.executor();
                threads::start(move || executor.run(&step))
            })
            .collect();
        waits
            .into_iter()
            .map(|wait| match wait {
                Ok(wait) => wait.join().unwrap_or(20),
                Err(error) => Trouble::new(error.to_string()).tell(self.program),
            })
            .max()
            .unwrap_or(0)
            .max(failed)
    }

    fn completions(&self) -> u8 {
        let shell = self.args.get_one::<String>("shell");
        let mut scripts = complete::SHELLS.iter();
        let (_, script) = scripts
            .find(|(name, _)| shell.is_some_and(|shell| shell == name))
            .expect("the parser knows only these");
        out::print(script);
        0
    }

    fn man(&self) -> u8 {
        let dir = self.path("dir").expect("it is required");
        if self.has("dry-run") {
            for name in crate::man::names() {
                out::line(&dir.join(name).display().to_string());
            }
            return 0;
        }
        match crate::man::write(&dir) {
            Ok(()) => 0,
            Err(error) => {
                out::error(&format!("{}: {}: {error}", self.program, dir.display()));
                1
            }
        }
    }
}

fn down(name: &str) -> Step {
    Step {
        resource: name.to_owned(),
        tool: crate::step::Tool::Setup,
        argv: vec!["down".to_owned(), name.to_owned()],
        object: name.to_owned(),
        action: Action::Run(Op::Down {
            resource: name.to_owned(),
        }),
    }
}

fn config_error(error: &ConfigError) -> u8 {
    out::error(&error.to_string());
    error.exit_code()
}

#[cfg(test)]
mod tests;
