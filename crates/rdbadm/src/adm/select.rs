//! Which resources and volumes the words of the command line mean (`docs/spec/admin.md`, section 3.2).

use rdb_config::{Config, Resource};

use crate::verbs::Target;

/// A resource named on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selected<'a> {
    /// The resource.
    pub(crate) resource: &'a Resource,
    /// The one volume meant; `None` for all.
    pub(crate) volume: Option<u16>,
}

/// Nothing is selected: the message, without the program's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SelectError {
    #[error("No resource names specified")]
    NoNames,
    #[error("no resources defined!")]
    NoResources,
    #[error(
        "WARN: no normal resources defined for this host ({0})!?\n\
         Misspelled name of the local machine with the 'on' keyword ?"
    )]
    NoneHere(String),
    #[error("'{name}' not defined in your config (for this host).")]
    Unknown { name: String },
    #[error(
        "'{name}' not defined in your config (for this host).\n\t\
         This host is called '{node}'; the resource has sections for {hosts}."
    )]
    OtherHost {
        name: String,
        node: String,
        hosts: String,
    },
    #[error("{command} operates on whole resources, but you specified a specific volume!")]
    Whole { command: String },
    #[error("'{0}' is a stacked resource, and not available in normal mode.")]
    Stacked(String),
    #[error("'{0}' is a normal resource, and not available in stacked mode.")]
    Normal(String),
    #[error("'{0}' is a stacked resource, and rdb does not serve such resources yet.")]
    StackedUnserved(String),
    #[error("WARN: nothing stacked for this host ({0}), nothing to do in stacked mode!")]
    NothingStacked(String),
}

/// Resolves the words.
pub(crate) fn select<'a>(
    config: &'a Config,
    node: &'a str,
    command: &str,
    target: Target,
    words: &[String],
) -> Result<Vec<Selected<'a>>, SelectError> {
    let whole = |resource| Selected {
        resource,
        volume: None,
    };
    if words.is_empty() && !target.is_all_unnamed() {
        return Err(SelectError::NoNames);
    }
    if config.resources.is_empty() {
        return Err(SelectError::NoResources);
    }
    if words.is_empty() || words.iter().any(|word| word == "all") {
        let all: Vec<_> = config.resources_of(node).map(whole).collect();
        return if all.is_empty() {
            Err(SelectError::NoneHere(node.to_owned()))
        } else {
            Ok(all)
        };
    }
    words
        .iter()
        .map(|word| one(config, node, command, target, word))
        .collect()
}

/// What the words mean with `--stacked`: nothing, for what is stacked is not served.
pub(crate) fn stacked(
    config: &Config,
    node: &str,
    target: Target,
    words: &[String],
) -> SelectError {
    if words.is_empty() && !target.is_all_unnamed() {
        return SelectError::NoNames;
    }
    if config.resources.is_empty() {
        return SelectError::NoResources;
    }
    let is_all = |word: &&String| *word == "all";
    let Some(word) = words.first().filter(|_| !words.iter().any(|w| is_all(&w))) else {
        return SelectError::NothingStacked(node.to_owned());
    };
    let minor = word
        .strip_prefix("minor-")
        .and_then(|minor| minor.parse().ok());
    let by_minor = minor.and_then(|minor| config.by_minor(node, minor));
    let name = word.split('/').next().unwrap_or_default();
    match by_minor
        .map(|(found, _)| found)
        .or(config.resource(name).ok())
    {
        Some(resource) if resource.is_stacked() => {
            SelectError::StackedUnserved(resource.name.clone())
        }
        Some(resource) => SelectError::Normal(resource.name.clone()),
        None => SelectError::Unknown { name: word.clone() },
    }
}

fn one<'a>(
    config: &'a Config,
    node: &str,
    command: &str,
    target: Target,
    word: &str,
) -> Result<Selected<'a>, SelectError> {
    let unknown = || SelectError::Unknown {
        name: word.to_owned(),
    };
    if let Some(minor) = word.strip_prefix("minor-") {
        let minor = minor.parse().map_err(|_| unknown())?;
        let (resource, volume) = config.by_minor(node, minor).ok_or_else(unknown)?;
        let host = resource.local_host(node);
        let is_only = host.is_some_and(|host| host.volumes.len() == 1);
        // More than was named is never touched: another volume of the resource may be in use.
        return match target {
            Target::Volumes => Ok(Selected {
                resource,
                volume: Some(volume),
            }),
            _ if is_only => Ok(Selected {
                resource,
                volume: None,
            }),
            _ => Err(whole(command)),
        };
    }
    let (name, volume) = match word.split_once('/') {
        Some((name, number)) => (name, Some(number.parse::<u16>().map_err(|_| unknown())?)),
        None => (word, None),
    };
    let resource = config.resource(name).map_err(|_| unknown())?;
    if resource.is_stacked() {
        return Err(SelectError::Stacked(name.to_owned()));
    }
    let Some(host) = resource.local_host(node) else {
        let hosts: Vec<String> = resource
            .hosts
            .iter()
            .flat_map(|h| &h.names)
            .map(|n| format!("'{n}'"))
            .collect();
        let hosts = if hosts.is_empty() {
            "no host".to_owned()
        } else {
            hosts.join(", ")
        };
        return Err(SelectError::OtherHost {
            name: name.to_owned(),
            node: node.to_owned(),
            hosts,
        });
    };
    if let Some(number) = volume {
        let Some(named) = host.volumes.iter().find(|v| v.number == number) else {
            return Err(unknown());
        };
        if target != Target::Volumes {
            // The one that no section has is the resource.
            return match named.implicit {
                true => Ok(Selected {
                    resource,
                    volume: None,
                }),
                false => Err(whole(command)),
            };
        }
    }
    Ok(Selected { resource, volume })
}

fn whole(command: &str) -> SelectError {
    SelectError::Whole {
        command: command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
        resource r0 {
            volume 0 { device /dev/drbd0; disk /dev/sda1; meta-disk internal; }
            volume 1 { device /dev/drbd1; disk /dev/sda2; meta-disk internal; }
            on alice { address 10.0.0.1:7788; }
            on bob { address 10.0.0.2:7788; }
        }
        resource r1 {
            device /dev/drbd2; disk /dev/sda3; meta-disk internal;
            on alice { address 10.0.0.1:7789; }
            on bob { address 10.0.0.2:7789; }
        }
        resource far {
            device /dev/drbd3; disk /dev/sda4; meta-disk internal;
            on carol { address 10.0.0.3:7789; }
            on dave { address 10.0.0.4:7789; }
        }";

    fn selected(target: Target, words: &[&str]) -> Result<String, String> {
        let config = rdb_config::load_str("test", CONFIG).unwrap().config;
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let selected =
            select(&config, "alice", "connect", target, &words).map_err(|e| e.to_string())?;
        let name = |s: &Selected<'_>| match s.volume {
            Some(volume) => format!("{}/{volume}", s.resource.name),
            None => s.resource.name.clone(),
        };
        Ok(selected.iter().map(name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn words_mean_what_drbdadm_takes_them_for() {
        use Target::{All, Optional, Volumes, Whole};
        for (target, words, meant) in [
            (Volumes, &["all"][..], Ok("r0 r1")),
            (Optional, &[], Ok("r0 r1")),
            (All, &[], Ok("r0 r1")),
            (Volumes, &["r1", "r0"], Ok("r1 r0")),
            (Volumes, &["r0/1"], Ok("r0/1")),
            (Volumes, &["minor-1"], Ok("r0/1")),
            (Whole, &["minor-2"], Ok("r1")),
            (Whole, &["r1/0"], Ok("r1")),
            (
                Whole,
                &["r1/1"],
                Err("'r1/1' not defined in your config (for this host)."),
            ),
            (
                Whole,
                &["minor-1"],
                Err("connect operates on whole resources, but you specified a specific volume!"),
            ),
            (Whole, &[], Err("No resource names specified")),
            (
                Whole,
                &["nosuch"],
                Err("'nosuch' not defined in your config (for this host)."),
            ),
            (
                Volumes,
                &["r0/7"],
                Err("'r0/7' not defined in your config (for this host)."),
            ),
            (
                Volumes,
                &["minor-99"],
                Err("'minor-99' not defined in your config (for this host)."),
            ),
            (
                Whole,
                &["r0/1"],
                Err("connect operates on whole resources, but you specified a specific volume!"),
            ),
            (
                Whole,
                &["far"],
                Err("'far' not defined in your config (for this host).\n\t\
                     This host is called 'alice'; the resource has sections for 'carol', 'dave'."),
            ),
        ] {
            let meant = meant.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(selected(target, words), meant, "{words:?}");
        }
    }

    #[test]
    fn nothing_to_select_from_is_said() {
        let empty = rdb_config::load_str("test", "global { usage-count no; }")
            .unwrap()
            .config;
        let all = ["all".to_owned()];
        let error = select(&empty, "alice", "up", Target::Whole, &all).unwrap_err();
        assert_eq!(error, SelectError::NoResources);
        let config = rdb_config::load_str("test", CONFIG).unwrap().config;
        let error = select(&config, "zoe", "up", Target::Whole, &all).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("WARN: no normal resources defined for this host (zoe)!?")
        );
    }
}
