//! Options as they are set in a file, by section.

use std::collections::BTreeMap;

use crate::error::Place;

/// The sections that hold options, in the order in which `dump` prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// `global {}`.
    Global,
    /// `options {}` of a resource.
    Options,
    /// `net {}`.
    Net,
    /// `disk {}`.
    Disk,
    /// `startup {}`.
    Startup,
    /// `proxy {}`.
    Proxy,
    /// `handlers {}`.
    Handlers,
}

impl Section {
    /// The sections that may stand in `common` and in resources.
    pub const IN_RESOURCE: [Self; 6] = [
        Self::Options,
        Self::Net,
        Self::Disk,
        Self::Startup,
        Self::Proxy,
        Self::Handlers,
    ];

    /// The keyword.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Options => "options",
            Self::Net => "net",
            Self::Disk => "disk",
            Self::Startup => "startup",
            Self::Proxy => "proxy",
            Self::Handlers => "handlers",
        }
    }
}

/// One option as set in a file, under its present name and in its present section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name, old spellings translated.
    pub name: String,
    /// The words after it, as written; empty for a bare flag.
    pub value: String,
    /// Where it was set.
    pub place: Place,
}

/// The option sections of `common`, a resource or a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sections(BTreeMap<Section, Vec<Setting>>);

impl Sections {
    /// One section alone.
    pub(crate) fn of(section: Section, settings: Vec<Setting>) -> Self {
        Self(BTreeMap::from([(section, settings)]))
    }

    /// The settings of one section, in file order.
    #[must_use]
    pub fn get(&self, section: Section) -> &[Setting] {
        self.0.get(&section).map_or(&[], Vec::as_slice)
    }

    /// The effective (that is, the last) setting of an option.
    #[must_use]
    pub fn find(&self, section: Section, name: &str) -> Option<&Setting> {
        self.get(section).iter().rev().find(|s| s.name == name)
    }

    /// How many settings there are.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    /// Puts what the parent sets and this does not in front, one by one, as DRBD inherits: `docs/spec/admin.md`,
    /// section 1.10.
    pub(crate) fn inherit(&mut self, parent: &Self) {
        for (&section, settings) in &parent.0 {
            self.inherit_section(section, settings);
        }
    }

    /// The same for one section. Of several settings of one option the last is inherited: it is the one that counts in the parent,
    /// too.
    pub fn inherit_section(&mut self, section: Section, settings: &[Setting]) {
        let own = self.0.entry(section).or_default();
        if section == Section::Proxy && own.iter().any(|s| s.name == "plugin") {
            // The list of plugins is inherited as a whole or not at all.
            let others: Vec<_> = settings
                .iter()
                .filter(|s| s.name != "plugin")
                .cloned()
                .collect();
            return inherit_into(own, &others);
        }
        inherit_into(own, settings);
    }

    /// Adds all settings of another section list.
    pub(crate) fn append(&mut self, other: &mut Self) {
        for (section, settings) in &mut other.0 {
            self.0.entry(*section).or_default().append(settings);
        }
    }

    /// Removes an option.
    pub(crate) fn remove(&mut self, section: Section, name: &str) {
        if let Some(settings) = self.0.get_mut(&section) {
            settings.retain(|s| s.name != name);
        }
    }

    pub(crate) fn push(&mut self, section: Section, setting: Setting) {
        self.0.entry(section).or_default().push(setting);
    }
}

/// One name for all, because several `plugin` settings make up one list.
fn inherit_into(own: &mut Vec<Setting>, settings: &[Setting]) {
    let had_plugins = own.iter().any(|s| s.name == "plugin");
    let mut plugins = Vec::new();
    for (at, setting) in settings.iter().enumerate() {
        if setting.name == "plugin" {
            plugins.extend((!had_plugins).then(|| setting.clone()));
            continue;
        }
        let is_last = settings[at + 1..].iter().all(|s| s.name != setting.name);
        if is_last && own.iter().all(|s| s.name != setting.name) {
            own.insert(0, setting.clone());
        }
    }
    own.extend(plugins);
}
