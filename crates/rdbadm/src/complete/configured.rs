//! What the configuration has names for. A file that can not be read, or has a mistake, has none: who completes a word is not the
//! one to be told.

use std::path::PathBuf;

use rdb_config::Config;

use super::Candidate;

/// The names that can be typed.
#[derive(Debug, Default)]
pub(super) struct Configured {
    config: Option<Config>,
    node: String,
}

impl Configured {
    /// Those of the configuration that the words before name, or of the usual one.
    pub(super) fn read(file: Option<&str>, node: Option<&str>) -> Configured {
        let path = file.map(PathBuf::from);
        let path = path.or_else(|| crate::variable("RDB_CONF").map(PathBuf::from));
        let path = path.unwrap_or_else(rdb_config::default_config_path);
        let node = node.map(str::to_owned);
        let node = node.or_else(|| crate::variable("RDB_NODE")?.into_string().ok());
        Configured {
            config: rdb_config::load(&path).ok().map(|loaded| loaded.config),
            node: node.or_else(crate::node_name).unwrap_or_default(),
        }
    }

    /// The resources of this node.
    pub(super) fn resources(&self) -> Vec<Candidate> {
        let resources = self.config.iter().flat_map(|c| c.resources_of(&self.node));
        resources
            .map(|resource| Candidate::new(&resource.name, "resource"))
            .collect()
    }

    /// The volumes of this node's resources, as `RES/N` and as `minor-N`.
    pub(super) fn volumes(&self) -> Vec<Candidate> {
        let volumes = self.each_volume();
        let volumes = volumes.flat_map(|(resource, volume, minor)| {
            let by_number = format!("{resource}/{volume}");
            let by_minor = Candidate::new(format!("minor-{minor}"), format!("volume {by_number}"));
            [
                Candidate::new(by_number, format!("minor {minor}")),
                by_minor,
            ]
        });
        volumes.collect()
    }

    /// The minor numbers of this node's volumes.
    pub(super) fn minors(&self) -> Vec<Candidate> {
        self.each_volume()
            .map(|(resource, volume, minor)| {
                Candidate::new(minor.to_string(), format!("{resource}/{volume}"))
            })
            .collect()
    }

    /// The names of all hosts.
    pub(super) fn hosts(&self) -> Vec<Candidate> {
        let resources = self.config.iter().flat_map(|config| &config.resources);
        let hosts = resources.flat_map(|resource| &resource.hosts);
        let mut names: Vec<&String> = hosts.flat_map(|host| &host.names).collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|n| Candidate::new(n, "host"))
            .collect()
    }

    fn each_volume(&self) -> impl Iterator<Item = (String, u16, u32)> {
        let resources = self.config.iter().flat_map(|c| c.resources_of(&self.node));
        resources.flat_map(|resource| {
            let described = resource.described_for(&self.node, None);
            let volumes = described
                .map(|resource| resource.volumes)
                .unwrap_or_default();
            let name = resource.name.clone();
            volumes
                .into_iter()
                .map(move |volume| (name.clone(), volume.volume, volume.minor))
        })
    }
}
