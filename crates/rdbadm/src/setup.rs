//! `rdbsetup`: one step at a time, with `drbdsetup`'s verbs (`docs/spec/admin.md`, section 4.1).

mod whole_resource;

use std::net::SocketAddr;
use std::path::PathBuf;

use rdb_config::Section;
use rdb_config::options::{Changed, Type};
use rdb_control::{
    ConnectionShown, HandlersShown, MetaDisk, Op, Refusal, ResourceShown, VerifyPart, WaitTimes,
    code,
};

use crate::events::Wanted;
use crate::events::legacy::Only;
use crate::exec::{Executor, Trouble};
use crate::shown;
use crate::status_text::Detail;
use crate::step::{Action, Family, Query, Step, Tool};
use crate::verbs::{self, Does, Own, Setup, VERBS, Verb};
use crate::{adm, events, out, show_json, status_text};

/// Exit status of a usage error.
pub(crate) const EXIT_USAGE: u8 = 20;

/// How long the command may take, in seconds: `--timeout` is an option of the connection here.
const CMD_TIMEOUT: &str = "--cmd-timeout";

/// The options before the command, and what each takes.
pub(crate) const GLOBALS: [(&str, &str); 3] = [
    ("--run-dir", "DIR"),
    ("--node", "NAME"),
    (CMD_TIMEOUT, "SECONDS"),
];

/// What messages name where addresses say which connection is meant, as `drbdsetup` has it (`docs/spec/behaviour.md`,
/// section 2.8). `rdbadm` knows the resource, and names it.
const ADDRESS_PAIR: &str = "??";

/// Runs `rdbsetup` with the words after its name; the result is the exit status.
pub(crate) fn main(program: &str, family: Family, words: Vec<String>) -> u8 {
    let mut run_dir = crate::default_run_dir();
    let mut node = crate::variable("RDB_NODE").and_then(|name| name.into_string().ok());
    let mut timeout = None;
    let mut rest = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("--run-dir", value)) => run_dir = PathBuf::from(value),
            Some(("--node", value)) => node = Some(value.to_owned()),
            Some((CMD_TIMEOUT, value)) => timeout = Some(value.to_owned()),
            _ if word == "--run-dir" || word == "--node" || word == CMD_TIMEOUT => {
                let Some(value) = words.next() else {
                    out::error(&format!("{program}: {word} needs a value"));
                    return EXIT_USAGE;
                };
                match word.as_str() {
                    "--node" => node = Some(value),
                    CMD_TIMEOUT => timeout = Some(value),
                    _ => run_dir = PathBuf::from(value),
                }
            }
            _ => rest.push(word),
        }
    }
    if matches!(
        rest.first().map(String::as_str),
        None | Some("help" | "--help" | "-h")
    ) {
        out::print(&usage(program));
        return if rest.is_empty() { EXIT_USAGE } else { 0 };
    }
    if matches!(rest[0].as_str(), "--version" | "-V") {
        out::line(&format!("{program} {}", env!("CARGO_PKG_VERSION")));
        return 0;
    }
    let mut executor = Executor::new(program.to_owned(), family, run_dir);
    executor.node = node;
    executor.is_setup = true;
    if let Some(word) = timeout {
        match word.parse() {
            Ok(seconds) => executor.limits = executor.limits.with_timeout(seconds),
            Err(_) => {
                out::error(&format!(
                    "{program}: {CMD_TIMEOUT}: '{word}' is no number of seconds"
                ));
                return EXIT_USAGE;
            }
        }
    }
    let call = match Call::parse(&rest) {
        Ok(call) => call,
        Err(message) => {
            out::error(&format!("{program}: {message}"));
            return EXIT_USAGE;
        }
    };
    run(&mut executor, &call)
}

/// The list of verbs.
fn usage(program: &str) -> String {
    let mut text = format!(
        "USAGE: {program} [--run-dir DIR] [--node NAME] [{CMD_TIMEOUT} SECONDS] COMMAND ARGUMENTS [OPTIONS]\n\nCommands:\n"
    );
    for verb in VERBS {
        let Some(setup) = &verb.setup else { continue };
        let section = setup.section.map_or_else(String::new, |section| {
            format!(" [--{}-OPTION=VALUE ...]", section.as_str())
        });
        let own: String = setup.own.iter().map(|own| format!(" [--{own}]")).collect();
        text += &format!("  {} {}{section}{own}\n", verb.name, setup.args);
    }
    text
}

/// A verb with its words sorted.
struct Call {
    verb: &'static Verb,
    /// What the verb takes.
    takes: &'static Setup,
    args: Vec<String>,
    /// Options of the verb's section.
    options: Vec<(String, String)>,
    /// Its own options; a bare one has `yes`.
    own: Vec<(String, String)>,
    words: Vec<String>,
}

impl Call {
    fn parse(words: &[String]) -> Result<Call, String> {
        let find = |word: &String| verbs::of_setup(word);
        let mut words = words.to_vec();
        // The order of 8.3 is OBJECT VERB: `0 primary`.
        if words.len() >= 2 && find(&words[0]).is_none() && find(&words[1]).is_some() {
            words.swap(0, 1);
        }
        let known = find(&words[0]).and_then(|verb| Some((verb, verb.setup.as_ref()?)));
        let (verb, takes) = known.ok_or_else(|| unknown(&words[0]))?;
        let mut call = Call {
            verb,
            takes,
            args: Vec::new(),
            options: Vec::new(),
            own: Vec::new(),
            words: words.clone(),
        };
        let mut words = words[1..].iter();
        while let Some(word) = words.next() {
            let Some(option) = word.strip_prefix("--") else {
                match word.as_str() {
                    "-D" if verb.name == "show" => {
                        call.own
                            .push(("show-defaults".to_owned(), "yes".to_owned()));
                    }
                    "-o" if verb.name == "primary" => {
                        call.own.push(("force".to_owned(), "yes".to_owned()))
                    }
                    _ if word.starts_with('-') && word.len() > 1 => {
                        return Err(format!("{}: unrecognized option '{word}'", verb.name));
                    }
                    _ => call.args.push(word.clone()),
                }
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some(both) => both,
                None if takes_value(takes, option) => {
                    let value = words.next();
                    let missing = || format!("{}: --{option} needs a value", verb.name);
                    (option, value.ok_or_else(missing)?.as_str())
                }
                None => (option, "yes"),
            };
            let name = match (verb.name, name) {
                // As without it.
                ("secondary", "force") if value == "no" => continue,
                ("secondary", "force") => return Err(NO_FORCED_SECONDARY.to_owned()),
                ("primary", "overwrite-data-of-peer") => "force",
                ("connect", "dry-run") => "tentative",
                (_, name) => name,
            };
            let setting = (name.to_owned(), value.to_owned());
            let is_section = takes
                .section
                .is_some_and(|s| rdb_config::options::find(s, name).is_some());
            if takes.own.contains(&name) {
                call.own.push(setting);
            } else if is_section {
                call.options.push(setting);
            } else {
                return Err(format!("{}: unrecognized option '--{name}'", verb.name));
            }
        }
        let wanted = takes.args.split(' ').filter(|w| !w.is_empty());
        let (least, most) = wanted.fold((0, 0), |(least, most), word| {
            (least + usize::from(!word.starts_with('[')), most + 1)
        });
        if call.args.len() < least || call.args.len() > most {
            let mut message = format!("{}: expected arguments: {}", verb.name, takes.args);
            let numbers = call.args.iter().skip(1);
            if takes.args == "MINOR"
                && call.args.len() > 1
                && numbers.clone().all(|word| is_number(word))
            {
                message += "\nDRBD 9's RESOURCE PEER-ID VOLUME is the volume's minor here, for there is one peer.";
            }
            return Err(message);
        }
        Ok(call)
    }

    fn has(&self, name: &str) -> bool {
        self.own
            .iter()
            .any(|(own, value)| own == name && value != "no")
    }

    /// What is asked for, as text or as JSON.
    fn query(&self, query: Query) -> Query {
        match self.has("json") {
            true => Query::GiJson,
            false => query,
        }
    }

    fn wants_color(&self) -> bool {
        let is_color = |(name, value): &(String, String)| {
            name == "color" && value != "never" && value != "auto"
        };
        self.own.iter().any(is_color)
    }

    fn step(&self, object: String, action: Action) -> Step {
        Step {
            resource: String::new(),
            tool: Tool::Setup,
            argv: self.words.clone(),
            object,
            action,
        }
    }

    /// Whether a resource is meant where a minor may stand.
    fn names_resource(&self) -> bool {
        self.takes.args == verbs::BY_RESOURCE && parse_minor(&self.args[0]).is_err()
    }

    fn minor(&self) -> Result<u32, String> {
        parse_minor(&self.args[0])
    }

    fn sector(&self, name: &str) -> Result<Option<u64>, String> {
        let word = self.own.iter().rev().find(|(own, _)| own == name);
        word.map(|(_, value)| value.parse())
            .transpose()
            .map_err(|_| format!("--{name} is not a sector number"))
    }

    /// An option that has to be there.
    fn given(&self, name: &str) -> Result<String, String> {
        let word = self.values(name).next_back();
        word.map(str::to_owned)
            .ok_or_else(|| format!("--{name} is missing"))
    }

    fn seconds(&self, name: &str) -> Result<u32, String> {
        match self.own.iter().rev().find(|(own, _)| own == name) {
            Some((_, value)) => value
                .parse()
                .map_err(|_| format!("{value} is not a valid number")),
            None => Ok(0),
        }
    }

    /// The options on top of those in use, which `--set-defaults` leaves out.
    fn options_over(&self, base: Option<Changed>) -> Result<shown::Parsed, String> {
        let section = self
            .takes
            .section
            .expect("only verbs with options ask for them");
        let base = base
            .filter(|_| !self.has("set-defaults"))
            .into_iter()
            .flatten()
            .map(|(option, value)| (option.name.to_owned(), value));
        let settings: Vec<_> = base
            .filter(|(name, _)| !self.options.iter().any(|(own, _)| own == name))
            .chain(self.options.iter().cloned())
            .collect();
        let parsed = shown::parse(section, &settings)?;
        for warning in &parsed.warnings {
            out::error(warning);
        }
        Ok(parsed)
    }

    /// The handlers on top of those in use, which `--set-defaults` leaves out.
    fn handlers_over(&self, base: Option<HandlersShown>) -> Result<HandlersShown, String> {
        let base = base.filter(|_| !self.has("set-defaults"));
        let base = base.unwrap_or_default();
        let mut settings: Vec<_> = base.commands.into_iter().collect();
        for given in self.values("handler") {
            let (name, command) = given
                .split_once('=')
                .ok_or_else(|| format!("--handler={given}: HANDLER=COMMAND is expected"))?;
            settings.retain(|(other, _)| other != name);
            settings.push((name.to_owned(), command.to_owned()));
        }
        let handlers = shown::parse(Section::Handlers, &settings)?.handlers;
        let conf = self.values("drbd-conf").last().map(PathBuf::from);
        let peers = self.values("drbd-peers").last();
        let peers = peers.map(|names| names.split(' ').map(str::to_owned).collect());
        Ok(HandlersShown::new(
            &handlers,
            conf.or(base.conf),
            peers.unwrap_or(base.peers),
        ))
    }

    /// All values of an own option, in the order of the command line.
    fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        let own = self.own.iter().filter(move |(own, _)| own == name);
        own.map(|(_, value)| value.as_str())
    }
}

/// The own options of commands that are not switches.
const WITH_VALUE: [&str; 11] = [
    "wfc-timeout",
    "degr-wfc-timeout",
    "outdated-wfc-timeout",
    "start",
    "stop",
    "name",
    "exec",
    "limit",
    "handler",
    "drbd-conf",
    "drbd-peers",
];

/// Whether the value of an option without `=` is the next word.
fn takes_value(takes: &Setup, name: &str) -> bool {
    let of_section = takes
        .section
        .and_then(|s| rdb_config::options::find(s, name));
    match of_section {
        Some(option) => !matches!(option.ty, Type::Bool { .. }),
        None => takes.own.contains(&name) && WITH_VALUE.contains(&name),
    }
}

fn unknown(command: &str) -> String {
    let more = match verbs::is_not_served(command) {
        true => "\nIt is a command of DRBD's that rdb does not serve yet.",
        false => "",
    };
    format!("Unknown command '{command}'{more}")
}

/// What is said of DRBD 9's `secondary --force`, which has users' requests fail.
const NO_FORCED_SECONDARY: &str = "secondary: --force is DRBD 9's, and not served: it takes the device from its users. End them \
    (fuser -m, lsof), or have them get errors: drbd-reconfigure-suspend-or-error@ and 'rdbadm detach --force' are for that.";

fn is_number(word: &str) -> bool {
    word.parse::<u16>().is_ok()
}

/// `N`, `minor-N`, `/dev/drbdN`.
fn parse_minor(word: &str) -> Result<u32, String> {
    let digits = word
        .strip_prefix("minor-")
        .or_else(|| word.strip_prefix("/dev/drbd"))
        .unwrap_or(word);
    digits
        .parse()
        .map_err(|_| format!("'{word}' is not a minor number"))
}

/// `[ipv4:]A.B.C.D:PORT`, `ipv6:[...]:PORT`.
fn parse_address(word: &str) -> Result<SocketAddr, String> {
    let address = word
        .strip_prefix("ipv4:")
        .or_else(|| word.strip_prefix("ipv6:"))
        .unwrap_or(word);
    address
        .parse()
        .map_err(|_| format!("'{word}' is not an address like ipv4:10.0.0.1:7789"))
}

fn run(executor: &mut Executor, call: &Call) -> u8 {
    match call.verb.does {
        Does::Own(Own::Events) => events(executor, call),
        Does::Own(Own::Events2) => events2(executor, call),
        Does::Own(Own::CheckResize) => check_resize(executor, call),
        Does::Own(Own::Status) => {
            let color = call.wants_color();
            let detail = Detail {
                verbose: call.has("verbose"),
                statistics: call.has("statistics"),
                color,
            };
            adm::show_status(executor, &call.args, detail, call.has("json"))
        }
        Does::Own(Own::Show) => match executor.show() {
            Ok(shown) => {
                let mut list = Vec::new();
                let defaults = call.has("show-defaults");
                let all = call.args.is_empty() || call.args[0] == "all";
                let minor = call.args.first().and_then(|word| parse_minor(word).ok());
                for resource in &shown {
                    let has_minor = resource.volumes.iter().any(|v| Some(v.minor) == minor);
                    if all || resource.name == call.args[0] || has_minor {
                        match call.has("json") {
                            true => list.push(show_json::resource(resource, defaults)),
                            false => out::print(&shown::show(resource, defaults)),
                        }
                    }
                }
                if call.has("json") {
                    out::print(&show_json::text(&list));
                }
                0
            }
            Err(trouble) => trouble.tell(&executor.program),
        },
        Does::Own(Own::ShStatus) => sh_status(executor, call),
        Does::Op(op) if call.names_resource() => {
            let is_set = call.verb.switch().is_some_and(|switch| call.has(switch));
            let step = |minor: u32, op| call.step(minor.to_string(), Action::Run(op));
            whole_resource::run(executor, &call.args[0], |minor| op(minor, is_set), step)
        }
        Does::Query(Query::Role) if call.names_resource() => {
            whole_resource::role(executor, &call.args[0])
        }
        _ => match step(executor, call) {
            Ok(Ok(step)) => executor.run(&step),
            Ok(Err((object, refusal))) => {
                out::error(&refusal.message(&object));
                refusal.exit_code()
            }
            Err(trouble) => trouble.tell(&executor.program),
        },
    }
}

/// The step that words of `rdbsetup` say; if there is none, that is told, and this is the exit status.
pub(crate) fn reread(executor: &mut Executor, words: &[String]) -> Result<Step, u8> {
    let read = Call::parse(words).map_err(Trouble::from);
    match read.and_then(|call| step(executor, &call)) {
        Ok(Ok(step)) => Ok(step),
        Ok(Err((object, refusal))) => {
            out::error(&refusal.message(&object));
            Err(refusal.exit_code())
        }
        Err(trouble) => Err(trouble.tell(&executor.program)),
    }
}

/// Whether options of a command's section are right.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check_options(verb: &Verb, words: &[String]) -> Result<(), String> {
    let section = verb.setup.and_then(|setup| setup.section);
    let section = section.ok_or_else(|| format!("{} has no options", verb.name))?;
    let settings: Vec<_> = words.iter().map(|word| setting(word)).collect();
    shown::parse(section, &settings).map(|_| ())
}

/// What `--NAME=VALUE` or a bare `--NAME` sets.
fn setting(word: &str) -> (String, String) {
    let option = word.trim_start_matches('-');
    let (name, value) = option.split_once('=').unwrap_or((option, "yes"));
    (name.to_owned(), value.to_owned())
}

/// The step of a call: refused before it is asked if it names what is not there.
fn step(executor: &mut Executor, call: &Call) -> Result<Result<Step, (String, Refusal)>, Trouble> {
    let args = &call.args;
    let first = args.first().cloned().unwrap_or_default();
    let own = match call.verb.does {
        Does::Op(op) | Does::OpOrMeta(op, _) => {
            let is_set = call.verb.switch().is_some_and(|switch| call.has(switch));
            return Ok(Ok(call.step(first, Action::Run(op(call.minor()?, is_set)))));
        }
        Does::Query(query) => {
            return Ok(Ok(
                call.step(first, Action::Query(call.query(query), call.minor()?))
            ));
        }
        Does::Own(own) => own,
        Does::Meta(_) | Does::Fact(_) | Does::Handler => return Err(unknown(&call.words[0]).into()),
    };
    let object = match own {
        Own::NewMinor => args[1].clone(),
        Own::NetOptions | Own::Disconnect => ADDRESS_PAIR.to_owned(),
        Own::Shutdown => "rdbd".to_owned(),
        _ => first.clone(),
    };
    let op = match own {
        Own::NewResource => Op::NewResource {
            resource: first,
            options: call.options_over(None)?.resource,
            handlers: call.handlers_over(None)?,
        },
        Own::ResourceOptions => {
            let base = current(executor, |r| r.name == first)?;
            let options = base.as_ref().map(|base| base.options.changed());
            Op::ResourceOptions {
                resource: first,
                options: call.options_over(options)?.resource,
                handlers: call.handlers_over(base.map(|base| base.handlers))?,
            }
        }
        Own::NewMinor => new_minor(args, first)?,
        Own::DelResource => Op::DelResource { resource: first },
        Own::Attach => attach(call)?,
        Own::DiskOptions => disk_options(executor, call)?,
        Own::Connect => Op::Connect {
            resource: first,
            local: parse_address(&args[1])?,
            peer: parse_address(&args[2])?,
            options: call.options_over(None)?.net,
            discard_my_data: call.has("discard-my-data"),
            tentative: call.has("tentative"),
        },
        Own::NetOptions | Own::Disconnect => match of_connection(executor, call, own)? {
            Some(op) => op,
            None => {
                let refusal = Refusal::failure(code::INVALID_REQUEST, "unknown connection");
                return Ok(Err((object, refusal)));
            }
        },
        Own::Down => {
            let minor = parse_minor(&first).ok();
            let has = |r: &ResourceShown| r.volumes.iter().any(|v| Some(v.minor) == minor);
            let of_minor = current(executor, has)?;
            Op::Down {
                resource: of_minor.map_or(first, |r| r.name),
            }
        }
        Own::Verify => Op::Verify {
            minor: call.minor()?,
            part: VerifyPart {
                start: call.sector("start")?,
                stop: call.sector("stop")?,
            },
        },
        Own::Snapshot => snapshot(call, first)?,
        Own::WaitConnect | Own::WaitSync => {
            return Ok(Ok(call.step(object, Action::Wait(wait(call, own)?))));
        }
        Own::Shutdown => Op::Shutdown,
        _ => return Err(unknown(&call.words[0]).into()),
    };
    Ok(Ok(call.step(object, Action::Run(op))))
}

/// These words have no room for what only a configuration says of a volume's names.
fn new_minor(args: &[String], resource: String) -> Result<Op, Trouble> {
    Ok(Op::NewMinor {
        resource,
        volume: args[2]
            .parse()
            .map_err(|_| format!("'{}' is not a volume number", args[2]))?,
        minor: parse_minor(&args[1])?,
        implicit: false,
        old_name: false,
    })
}

fn snapshot(call: &Call, resource: String) -> Result<Op, Trouble> {
    Ok(Op::Snapshot {
        resource,
        name: call.given("name")?,
        exec: call.values("exec").next_back().map(str::to_owned),
        limit_s: match call.seconds("limit")? {
            0 => return Err("--limit is missing, or 0".to_owned().into()),
            seconds => seconds,
        },
        local_only: call.has("local-only"),
    })
}

fn attach(call: &Call) -> Result<Op, Trouble> {
    let args = &call.args;
    let meta = match args[3].as_str() {
        "internal" | "flex-internal" => MetaDisk::Internal,
        "flexible" | "flex-external" => MetaDisk::Flexible(PathBuf::from(&args[2])),
        index => MetaDisk::Indexed(
            PathBuf::from(&args[2]),
            index
                .parse()
                .map_err(|_| format!("'{index}' is not internal, flexible or an index"))?,
        ),
    };
    if meta == MetaDisk::Internal && args[2] != args[1] {
        return Err("with internal metadata both devices are the same"
            .to_owned()
            .into());
    }
    Ok(Op::Attach {
        minor: call.minor()?,
        data: PathBuf::from(&args[1]),
        meta,
        options: call.options_over(None)?.disk,
    })
}

fn disk_options(executor: &mut Executor, call: &Call) -> Result<Op, Trouble> {
    let minor = call.minor()?;
    let has = |r: &ResourceShown| r.volumes.iter().any(|v| v.minor == minor);
    let base = current(executor, has)?
        .and_then(|r| r.volumes.into_iter().find(|v| v.minor == minor)?.disk)
        .map(|d| d.options.changed());
    let options = call.options_over(base)?.disk;
    Ok(Op::DiskOptions { minor, options })
}

/// What is done to the connection between two addresses, if there is one.
fn of_connection(executor: &mut Executor, call: &Call, own: Own) -> Result<Option<Op>, Trouble> {
    let pair = (parse_address(&call.args[0])?, parse_address(&call.args[1])?);
    let is_it = |c: &ConnectionShown| (c.local, c.peer) == pair;
    let Some(found) = current(executor, |r| r.connection.as_ref().is_some_and(is_it))? else {
        return Ok(None);
    };
    let resource = found.name;
    Ok(Some(if own == Own::Disconnect {
        let force = call.has("force");
        Op::Disconnect { resource, force }
    } else {
        let base = found.connection.map(|c| c.net.changed());
        let options = call.options_over(base)?.net;
        Op::NetOptions { resource, options }
    }))
}

fn wait(call: &Call, own: Own) -> Result<Op, Trouble> {
    let times = WaitTimes {
        wfc_s: call.seconds("wfc-timeout")?,
        degr_wfc_s: call.seconds("degr-wfc-timeout")?,
        outdated_wfc_s: call.seconds("outdated-wfc-timeout")?,
        wait_after_sb: call.has("wait-after-sb"),
    };
    let minor = call.minor()?;
    Ok(match own {
        Own::WaitSync => Op::WaitSync { minor, times },
        _ => Op::WaitConnect { minor, times },
    })
}

/// How the first resource runs that is meant.
fn current(
    executor: &mut Executor,
    is_meant: impl Fn(&ResourceShown) -> bool,
) -> Result<Option<ResourceShown>, Trouble> {
    Ok(executor.show()?.into_iter().find(is_meant))
}

/// What happens, in the older form.
fn events(executor: &Executor, call: &Call) -> u8 {
    let word = call.args[0].clone();
    let only = match (word.as_str(), parse_minor(&word)) {
        ("all", _) => Only::All,
        (_, Ok(minor)) => Only::Minor(minor),
        _ => Only::Resource(word),
    };
    events::legacy::run(executor, only)
}

/// What there is, and what happens to it.
fn events2(executor: &Executor, call: &Call) -> u8 {
    let wanted = Wanted {
        resources: call.args.clone(),
        now: call.has("now"),
        poll: call.has("poll"),
        full: call.has("full"),
        timestamps: call.has("timestamps"),
        statistics: call.has("statistics"),
        diff: call.has("diff"),
        color: call.wants_color(),
        json: call.has("json"),
    };
    events::run(executor, &wanted)
}

/// Nothing is to be remembered of a disk's size before devices are resized; but the minor has to be there.
fn check_resize(executor: &mut Executor, call: &Call) -> u8 {
    let minor = match call.minor() {
        Ok(minor) => minor,
        Err(message) => return Trouble::new(message).tell(&executor.program),
    };
    match current(executor, |r| r.volumes.iter().any(|v| v.minor == minor)) {
        Ok(Some(_)) => 0,
        Ok(None) => {
            let refusal = Refusal::failure(code::MINOR_INVALID, "unknown minor");
            out::error(&refusal.message(&call.args[0]));
            refusal.exit_code()
        }
        Err(trouble) => trouble.tell(&executor.program),
    }
}

/// Shell assignments, which cluster agents `eval` (`docs/spec/admin.md`, section 4.6).
fn sh_status(executor: &mut Executor, call: &Call) -> u8 {
    let report = match executor.status() {
        Ok(report) => report,
        Err(trouble) => return trouble.tell(&executor.program),
    };
    let word = call.args.first().map_or("all", String::as_str);
    let minor = parse_minor(word).ok();
    let mut text = String::new();
    for resource in report.iter().flat_map(|r| &r.resources) {
        for volume in &resource.volumes {
            if word == "all" || resource.name == word || minor == Some(volume.minor) {
                text += &status_text::sh_status(resource, volume);
            }
        }
    }
    if text.is_empty() && word != "all" {
        text = status_text::sh_status_of_none(minor);
    }
    out::print(&text);
    0
}

#[cfg(test)]
pub(crate) fn step_of(executor: &mut Executor, words: &[String]) -> Result<Step, String> {
    let call = Call::parse(words)?;
    let step = step(executor, &call).map_err(|trouble| trouble.message)?;
    step.map_err(|(object, refusal)| refusal.message(&object))
}

#[cfg(test)]
mod tests;
