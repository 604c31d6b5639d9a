//! The drbd.conf language: parse, check, translate old styles, resolve for one host, print.
//!
//! The language and its messages: `docs/spec/admin.md`, sections 1 and 2. Nothing here touches a device, the network
//! or the terminal: files in, values, messages and warnings out.
//!
//! ```text
//! load -> lexer -> parse (translates old styles) -> check -> Config -> Resource::for_host -> ResolvedResource
//!                                                              `-> dump, dump-xml
//! ```
//!
//! What rdb does not serve is refused by [`Resource::for_host`], not by [`load()`]: a file can be read, checked and
//! printed as a whole although one of its resources cannot run.
#![forbid(unsafe_code)]

mod check;
mod dump;
mod dump_xml;
mod error;
mod file;
mod lexer;
mod model;
pub mod options;
mod parse;
mod resolve;
mod sections;
mod shell;
mod suggest;
mod text;
mod typed;
mod value;

pub use dump::DumpStyle;
pub use error::{
    ConfigError, Diagnostic, Place, Problem, SourceFile, Warning, WarningKind, printable,
};
pub use file::{read_limited, read_regular};
pub use model::{
    Address, Config, Device, Disk, Family, Global, Host, HostKind, HostProxy, MetaDisk,
    ResolvedHost, ResolvedResource, ResolvedVolume, Resource, Section, Sections, Setting, Volume,
};
pub use options::{
    DiskOptions, GlobalOptions, Handlers, NetOptions, ResourceOptions, StartupOptions,
};
pub use parse::FILE_MAX;
pub use resolve::resource_name_fault;
pub use shell::shell_word;
pub use typed::{
    AfterSb0p, AfterSb1p, AfterSb2p, Fencing, OnCongestion, OnIoError, OnNoDataAccessible,
    Protocol, RrConflict,
};
pub use value::Refused;

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A configuration that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What to tell the user about it.
    pub warnings: Vec<Warning>,
}

/// Reads a configuration file and everything it includes.
///
/// # Errors
/// All that is wrong with it, up to the first syntax error.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let name = path.display().to_string();
    match file::read_regular(path, FILE_MAX) {
        Ok(bytes) => build(&name, path, &bytes.as_slice().into()),
        Err(error) => {
            let reason = error::system_words(&error);
            Err(ConfigError::one(None, Problem::Open { name, reason }))
        }
    }
}

/// Reads a configuration from a text; `STDIN` is its name where it was piped in. Relative includes start from the
/// folder of `name`.
///
/// # Errors
/// As [`load()`].
pub fn load_str(name: &str, text: &str) -> Result<Loaded, ConfigError> {
    build(name, Path::new(name), &text.into())
}

/// The same from the bytes of a text, as they were read.
///
/// # Errors
/// As [`load()`]; and outside of comments, bytes that are not UTF-8.
pub fn load_bytes(name: &str, bytes: &[u8]) -> Result<Loaded, ConfigError> {
    build(name, Path::new(name), &bytes.into())
}

/// The same, with a further file as if its last line included that: for checks over both.
///
/// # Errors
/// As [`load()`].
pub fn load_bytes_with(name: &str, bytes: &[u8], further: &Path) -> Result<Loaded, ConfigError> {
    let literal = glob::Pattern::escape(&further.to_string_lossy());
    let quoted = literal.replace('\\', "\\\\").replace('"', "\\\"");
    let line = format!("\ninclude \"{quoted}\";\n");
    load_bytes(name, &[bytes, line.as_bytes()].concat())
}

/// The configuration file when none is named: `/etc/rdb.conf` if it is there, else `/etc/drbd.conf`.
#[must_use]
pub fn default_config_path() -> PathBuf {
    let own = PathBuf::from("/etc/rdb.conf");
    if own.exists() {
        own
    } else {
        PathBuf::from("/etc/drbd.conf")
    }
}

fn build(name: &str, path: &Path, text: &text::Text) -> Result<Loaded, ConfigError> {
    let parsed = parse::Parser::run(name, path, text);
    let parse::Parsed {
        path,
        global,
        common,
        has_common,
        mut resources,
        mut errors,
        mut warnings,
        more_warnings,
        groups,
        stopped,
    } = parsed;
    let common = Arc::new(common);
    check::groups_of_07(&resources, &groups, &mut warnings);
    for resource in &mut resources {
        resource.common = Arc::clone(&common);
    }
    let global = Global::new(global);
    let mut config = Config {
        file: name.to_owned(),
        path,
        global,
        common,
        has_common,
        resources,
    };
    // After a syntax error the rest of the file is unknown, and whatever these checks miss may be there. What is there
    // twice would be found in each of these checks again.
    if !stopped && !errors.has_conflict() {
        check::check(&mut config, &mut errors, &mut warnings);
        check::open_secrets(&config, &mut warnings);
    }
    errors.result()?;
    let more = more_warnings + warnings.len().saturating_sub(parse::WARNINGS_MAX);
    warnings.truncate(parse::WARNINGS_MAX);
    if more > 0 {
        warnings.push(Warning {
            kind: WarningKind::Advice,
            place: None,
            text: format!("and {more} more warnings"),
        });
    }
    Ok(Loaded { config, warnings })
}
