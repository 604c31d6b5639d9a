//! Completion of `rdbadm`, by its parser.

use clap::{Arg, Command};

use super::configured::Configured;
use super::{Answer, Candidate, SHELLS, nothing, plain};
use crate::adm::table;
use crate::verbs::{self, Own, Target, Verb};

/// What the words before say.
struct Line<'a> {
    command: &'a Command,
    verb: Option<(&'static Verb, &'a Command)>,
    /// A command that there is not.
    is_unknown: bool,
    objects: Vec<&'a str>,
    /// The option whose value comes next.
    open: Option<&'a Arg>,
    file: Option<&'a str>,
    node: Option<&'a str>,
}

/// What `typed` may become behind the words `before`.
pub(super) fn answer(program: &str, before: &[String], typed: &str) -> Answer {
    let mut command = table::command(program);
    command.build();
    let line = Line::read(&command, before);
    if let Some(arg) = line.open {
        return line.values(arg, "");
    }
    if let Some((name, _)) = typed.split_once('=').filter(|_| typed.starts_with("--")) {
        return match line.option(name) {
            Some(arg) => line.values(arg, &format!("{name}=")),
            None => nothing(),
        };
    }
    if typed.starts_with('-') {
        return Answer::Words(line.options());
    }
    match line.verb {
        Some((verb, _)) => line.objects(verb),
        None if line.is_unknown => nothing(),
        None => Answer::Words(commands(&command, typed)),
    }
}

/// The commands; those for scripts once their names are begun.
fn commands(command: &Command, typed: &str) -> Vec<Candidate> {
    let shown = |sub: &&Command| !sub.is_hide_set() || !typed.is_empty();
    let about = |sub: &Command| sub.get_about().map(ToString::to_string).unwrap_or_default();
    command
        .get_subcommands()
        .filter(shown)
        .map(|sub| Candidate::new(sub.get_name(), about(sub)))
        .collect()
}

impl<'a> Line<'a> {
    fn read(command: &'a Command, before: &'a [String]) -> Line<'a> {
        let mut line = Line {
            command,
            verb: None,
            is_unknown: false,
            objects: Vec::new(),
            open: None,
            file: None,
            node: None,
        };
        for word in before {
            if let Some(arg) = line.open.take() {
                line.note(arg, word);
            } else if word.starts_with('-') && word.len() > 1 {
                let (name, value) = match word.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (word.as_str(), None),
                };
                match (line.option(name), value) {
                    (Some(arg), Some(value)) => line.note(arg, value),
                    (Some(arg), None) if takes_next(arg) => line.open = Some(arg),
                    _ => {}
                }
            } else if line.verb.is_none() && !line.is_unknown {
                let sub = command.find_subcommand(word);
                line.verb = verbs::of_adm(word).zip(sub);
                line.is_unknown = line.verb.is_none();
            } else {
                line.objects.push(word);
            }
        }
        line
    }

    fn note(&mut self, arg: &Arg, value: &'a str) {
        match arg.get_id().as_str() {
            "config-file" => self.file = Some(value),
            "node" => self.node = Some(value),
            _ => {}
        }
    }

    fn args(&self) -> impl Iterator<Item = &'a Arg> {
        let own = self.verb.iter().flat_map(|(_, sub)| sub.get_arguments());
        // Those of the program itself are among those of each command, once that is built.
        let is_open = self.verb.is_none();
        let open = self.command.get_arguments().filter(move |_| is_open);
        own.chain(open).filter(|arg| !arg.is_positional())
    }

    /// The option of a name with its dashes.
    fn option(&self, name: &str) -> Option<&'a Arg> {
        self.args().find(|arg| match name.strip_prefix("--") {
            Some(long) => {
                let aliases = arg.get_all_aliases().unwrap_or_default();
                arg.get_long() == Some(long) || aliases.contains(&long)
            }
            None => {
                let short = name.chars().nth(1);
                let aliases = arg.get_all_short_aliases().unwrap_or_default();
                short.is_some_and(|c| arg.get_short() == Some(c) || aliases.contains(&c))
            }
        })
    }

    fn options(&self) -> Vec<Candidate> {
        let shown = self.args().filter(|arg| !arg.is_hide_set());
        let shown = shown.filter_map(|arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            Some(Candidate::new(format!("--{}", arg.get_long()?), help))
        });
        shown.collect()
    }

    /// What an option's value may be; with `head` before each.
    fn values(&self, arg: &Arg, head: &str) -> Answer {
        let possible = arg.get_possible_values();
        if !possible.is_empty() && arg.get_action().takes_values() {
            return plain(possible.iter().map(|v| format!("{head}{}", v.get_name())));
        }
        let name = arg.get_value_names().and_then(|names| names.first());
        match (arg.get_id().as_str(), name.map(|name| name.as_str())) {
            ("node" | "peer", _) => {
                let mut hosts = Configured::read(self.file, self.node).hosts();
                hosts.iter_mut().for_each(|h| h.word.insert_str(0, head));
                Answer::Words(hosts)
            }
            (_, Some("FILE" | "PATH")) => Answer::Files,
            (_, Some("DIR")) => Answer::Folders,
            _ => nothing(),
        }
    }

    /// What a command works on.
    fn objects(&self, verb: &Verb) -> Answer {
        if verb.is(Own::Completions) {
            return match self.objects.is_empty() {
                true => plain(SHELLS.map(|(name, _)| name)),
                false => nothing(),
            };
        }
        if verb.is(Own::Man) {
            return Answer::Folders;
        }
        let target = verb.adm.map_or(Target::None, |adm| adm.target);
        let takes_none = matches!(target, Target::None | Target::All);
        if takes_none || self.objects.contains(&"all") {
            return nothing();
        }
        let configured = Configured::read(self.file, self.node);
        let mut found = configured.resources();
        if self.objects.is_empty() && !found.is_empty() {
            found.push(Candidate::new("all", "all resources"));
        }
        if target == Target::Volumes {
            found.extend(configured.volumes());
        }
        found.retain(|candidate| !self.objects.contains(&candidate.word.as_str()));
        Answer::Words(found)
    }
}

/// Whether an option's value is the word behind it.
fn takes_next(arg: &Arg) -> bool {
    let least = arg.get_num_args().map_or(0, |range| range.min_values());
    arg.get_action().takes_values() && least > 0 && !arg.is_require_equals_set()
}
