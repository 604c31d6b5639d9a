//! Resources, hosts and volumes: `docs/spec/admin.md`, sections 1.5, 1.8 and 1.10.

use super::address::{PORT_0_6, Portless};
use super::connection::{Connection, Joined};
use super::volume::{META_INDEX_MAX, fill, implicit_volume};
use super::{Parser, Step, VOLUME_SETTINGS_MAX, VOLUMES_MAX, is_keyword};
use crate::dump::escape as quoted;
use crate::error::{Place, Problem, WarningKind};
use crate::lexer::{Kind, Token};
use crate::model::{
    Disk, Host, HostKind, HostProxy, MetaDisk, Resource, Section, Sections, Volume,
};
use crate::options::{self, OldSection};
use crate::suggest;

const RESOURCE_ITEMS: &str =
    "protocol | on | disk | net | syncer | startup | handlers | ignore-on | stacked-on-top-of";
const HOST_ITEMS: &str = "disk | device | address | meta-disk | flexible-meta-disk";
/// The words that suggestions are taken from: more than DRBD's messages list.
const RESOURCE_WORDS: &[&str] = &[
    "protocol",
    "on",
    "floating",
    "stacked-on-top-of",
    "volume",
    "device",
    "disk",
    "meta-disk",
    "flexible-meta-disk",
    "net",
    "syncer",
    "startup",
    "handlers",
    "options",
    "proxy",
    "connection",
    "connection-mesh",
    "ignore-on",
];
const HOST_WORDS: &[&str] = &[
    "device",
    "disk",
    "address",
    "meta-disk",
    "flexible-meta-disk",
    "volume",
    "options",
    "proxy",
    "node-id",
    "alternate-link-address",
];

/// Where a word belongs that stands among the statements of a resource and is none.
fn misplaced(word: &str) -> String {
    let sections: Vec<&str> = Section::IN_RESOURCE
        .into_iter()
        .filter(|&s| options::find(s, word).is_some())
        .map(Section::as_str)
        .collect();
    match sections.as_slice() {
        _ if word == "address" => {
            "an address belongs into the braces of an 'on' section".to_owned()
        }
        [] => String::new(),
        found => format!("'{word}' belongs into {} {{}}", found.join(" {} or ")),
    }
}

/// Sections by keyword.
fn section_of(word: &str) -> Option<OldSection> {
    Some(match word {
        "options" => OldSection::Now(Section::Options),
        "net" => OldSection::Now(Section::Net),
        "disk" => OldSection::Now(Section::Disk),
        "syncer" => OldSection::Syncer,
        "startup" => OldSection::Now(Section::Startup),
        "handlers" => OldSection::Now(Section::Handlers),
        "proxy" => OldSection::Now(Section::Proxy),
        _ => return None,
    })
}

/// A resource under construction.
struct Draft {
    name: String,
    /// Where its name stands.
    place: Place,
    sections: Sections,
    /// Resource-level volumes: templates for each host.
    templates: Vec<Volume>,
    hosts: Vec<HostDraft>,
    explicit_volumes: bool,
    unserved: Vec<(String, Place)>,
    connections: Vec<Connection>,
    /// Whether any statement was a 0.6-style assignment.
    assigned: bool,
}

/// A host under construction.
pub(super) struct HostDraft {
    pub(super) host: Host,
    label: String,
    port: Option<u16>,
    meta_index: Option<u32>,
    pub(super) address_has_port: bool,
}

impl HostDraft {
    /// What connections call it.
    pub(super) fn called(&self) -> &[String] {
        match self.host.kind {
            HostKind::Stacked => &[],
            HostKind::On | HostKind::Floating => &self.host.names,
        }
    }
}

impl Parser {
    /// The body of `common {}` after its brace.
    pub(super) fn common_body(&mut self, owner: &Place) -> Step<Sections> {
        let mut sections = Sections::default();
        loop {
            let token = self.next()?;
            match (&token.kind, token.text.as_str()) {
                (Kind::Punct('}'), _) => return Ok(sections),
                (Kind::End, _) => {
                    let text = "the '}' that ends common is missing".to_owned();
                    self.warn(WarningKind::Advice, &token, text);
                    return Ok(sections);
                }
                (Kind::Punct(';'), _) => self.stray_semicolon(&token),
                (Kind::Word, "on" | "floating" | "stacked-on-top-of") => {
                    return self.stop(Some(self.place(&token)), Problem::HostInCommon);
                }
                _ => {
                    if !self.section_or_protocol(&token, "common", owner, &mut sections)? {
                        let hint = match misplaced(&token.text) {
                            hint if hint.is_empty() => {
                                suggest::hint(&token.text, RESOURCE_WORDS.iter().copied())
                            }
                            hint => hint,
                        };
                        return self.expected(RESOURCE_ITEMS, &token, &hint);
                    }
                }
            }
        }
    }

    /// A section or `protocol`; false when the word is neither.
    pub(super) fn section_or_protocol(
        &mut self,
        token: &Token,
        key: &str,
        owner: &Place,
        sections: &mut Sections,
    ) -> Step<bool> {
        if token.kind != Kind::Word {
            return Ok(false);
        }
        let owner = format!("{owner:?}");
        if token.text == "protocol" {
            let place = self.place(token);
            self.only_once_in(
                &owner,
                "protocol statement",
                &format!("{key}: protocol"),
                place,
            );
            if let Some(def) = options::find(Section::Net, "protocol") {
                self.known_option(def, token, sections)?;
            }
            return Ok(true);
        }
        let Some(section) = section_of(&token.text) else {
            return Ok(false);
        };
        // `syncer rate = 33M;`: one assignment without braces, as old texts write it.
        if section == OldSection::Syncer
            && self.peek_raw().kind == Kind::Word
            && self.peek_second().is('=')
        {
            let option = self.next()?;
            self.option(section, &option, key, sections)?;
            return Ok(true);
        }
        let place = self.place(token);
        self.open()?;
        let (what, which) = match token.text.as_str() {
            "options" => ("resource options", "res_options"),
            other => (other, other),
        };
        self.only_once_in(
            &owner,
            &format!("{what} section"),
            &format!("{key}:{which}"),
            place,
        );
        self.option_section(section, key, sections)?;
        Ok(true)
    }

    /// A resource after its keyword.
    pub(super) fn resource(&mut self) -> Step<()> {
        let name = self.name()?;
        self.check_name("resource name", &name);
        let place = self.place(&name);
        self.only_once("resource section", &name.text, place.clone());
        self.open()?;
        let mut draft = Draft {
            name: name.text,
            place,
            sections: Sections::default(),
            templates: Vec::new(),
            hosts: Vec::new(),
            explicit_volumes: false,
            unserved: Vec::new(),
            connections: Vec::new(),
            assigned: false,
        };
        loop {
            let token = self.next()?;
            // The last brace of a file may be missing, as in DRBD.
            if token.is('}') || token.kind == Kind::End {
                if token.kind == Kind::End {
                    let text = format!(
                        "the '}}' that ends resource {} is missing",
                        quoted(&draft.name)
                    );
                    self.warn(WarningKind::Advice, &token, text);
                }
                let end = self.place(&token);
                let resource = self.finish(draft, end)?;
                self.out.resources.push(resource);
                return Ok(());
            }
            draft.assigned |= self.peek_raw().is('=');
            self.resource_item(&token, &mut draft)?;
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one arm a word")]
    fn resource_item(&mut self, token: &Token, draft: &mut Draft) -> Step<()> {
        let word = if token.kind == Kind::Word {
            token.text.as_str()
        } else {
            ""
        };
        match word {
            "on" => {
                let host = self.on(draft)?;
                draft.hosts.push(host);
            }
            "floating" => {
                let host = self.floating(draft)?;
                draft.hosts.push(host);
            }
            "stacked-on-top-of" => {
                let place = self.place(token);
                draft
                    .unserved
                    .push(("'stacked-on-top-of'".to_owned(), place));
                let host = self.stacked(draft)?;
                draft.hosts.push(host);
            }
            "ignore-on" => {
                self.text()?;
                self.end_of_statement(false)?;
                let text = format!(
                    "in resource {}, WARN: The 'ignore-on' keyword is deprecated.",
                    quoted(&draft.name)
                );
                self.warn(WarningKind::Deprecated, token, text);
            }
            "volume" => {
                draft.explicit_volumes = true;
                let key = draft.name.clone();
                let volume = self.volume(&key)?;
                let owner = draft.place.clone();
                self.add_volume(&mut draft.templates, volume, &key, &owner);
            }
            "disk" if self.peek_raw().is('{') => {
                let key = draft.name.clone();
                self.section_or_protocol(token, &key, &draft.place.clone(), &mut draft.sections)?;
            }
            "device" | "disk" | "meta-disk" | "flexible-meta-disk" => {
                let place = self.place(token);
                let volume = implicit_volume(&mut draft.templates, place);
                let key = draft.name.clone();
                self.volume_item(token, volume, &key)?;
            }
            "connection" => {
                let connection = self.connection(token, &draft.name)?;
                draft.connections.push(connection);
            }
            "connection-mesh" => {
                let mesh = self.connection_mesh(token, &draft.name)?;
                draft.connections.push(mesh);
            }
            "global" | "common" | "resource" => {
                let hint = format!(
                    "is the '}}' missing that ends resource {}?",
                    quoted(&draft.name)
                );
                return self.expected(RESOURCE_ITEMS, token, &hint);
            }
            "skip" => {
                self.skip_in_resource(token)?;
            }
            "fsckcmd" | "skip-wait" => self.ignored(token)?,
            "inittimeout" => {
                self.old_setting(token, Section::Startup, "wfc-timeout", &mut draft.sections)?
            }
            "incon-degr-cmd" => {
                self.old_setting(
                    token,
                    Section::Handlers,
                    "pri-on-incon-degr",
                    &mut draft.sections,
                )?;
            }
            _ if token.is(';') => self.stray_semicolon(token),
            _ => {
                let key = draft.name.clone();
                if !self.section_or_protocol(
                    token,
                    &key,
                    &draft.place.clone(),
                    &mut draft.sections,
                )? {
                    let mut hint = misplaced(word);
                    if hint.is_empty() {
                        hint = suggest::hint(word, RESOURCE_WORDS.iter().copied());
                    }
                    return self.expected(RESOURCE_ITEMS, token, &hint);
                }
            }
        }
        Ok(())
    }

    pub(super) fn skip_in_resource(&mut self, keyword: &Token) -> Step<()> {
        while !self.peek_raw().is('{') {
            if self.peek_raw().kind == Kind::End || self.peek_raw().is('}') {
                let token = self.next()?;
                return self.expected("[ some_text ] {", &token, "");
            }
            self.at += 1;
        }
        self.skip_braces(keyword)
    }

    /// A 0.6 statement of the resource that is an option of a section now.
    fn old_setting(
        &mut self,
        token: &Token,
        section: Section,
        name: &str,
        into: &mut Sections,
    ) -> Step<()> {
        let assigned = self.assignment(token);
        let mut value = self.value()?;
        // An unquoted command line goes up to the line's end.
        while assigned && self.peek_raw().is_text() && self.peek_raw().line == value.line {
            let more = self.next()?;
            value.text = format!("{} {}", value.text, more.text);
        }
        self.end_of_statement(assigned)?;
        if name == "wfc-timeout" && value.text.starts_with('-') {
            let text = "a negative inittimeout waits only when the cluster was degraded".to_owned();
            self.warn(WarningKind::Deprecated, token, text);
            value.text.remove(0);
            if let Some(def) = options::find(section, "degr-wfc-timeout") {
                self.check_and_set(def, &value, token, into);
            }
        } else if let Some(def) = options::find(section, name) {
            self.check_and_set(def, &value, token, into);
        }
        Ok(())
    }

    /// `on NAME ... {`.
    fn on(&mut self, draft: &mut Draft) -> Step<HostDraft> {
        let first = self.name()?;
        let place = self.place(&first);
        let mut names = vec![first.text.clone()];
        self.host_name(&first, draft);
        loop {
            let token = self.next()?;
            if token.is('{') {
                break;
            }
            if !token.is_text() || (token.kind == Kind::Word && is_keyword(&token.text)) {
                let before = self.tokens[self.at.saturating_sub(2)].line;
                let hint = if before < token.line {
                    format!("is the '{{' missing at the end of line {before}?")
                } else {
                    "is the '{' missing after the host's name?".to_owned()
                };
                return self.expected("TK_STRING | '{'", &token, &hint);
            }
            self.host_name(&token, draft);
            names.push(token.text);
        }
        let label = format!("on {}", names[0]);
        let mut host = self.host_draft(HostKind::On, names, place, label);
        self.host_body(draft, &mut host)?;
        Ok(host)
    }

    fn host_name(&mut self, token: &Token, draft: &Draft) {
        self.check_name("host name", token);
        let place = self.place(token);
        let key = format!("{}: on {}", draft.name, token.text);
        self.only_once_in(&format!("{:?}", draft.place), "host section", &key, place);
    }

    /// `floating ADDRESS ;` or with a body.
    fn floating(&mut self, draft: &mut Draft) -> Step<HostDraft> {
        let Portless { address, .. } = self.address(false)?;
        let name = address.to_string();
        let place = address.place.clone();
        let node_id = self.peek_raw().clone();
        let node_id = if self.accept_word("node-id") {
            Some(self.node_id(&node_id, draft)?)
        } else {
            None
        };
        let mut host = self.host_draft(
            HostKind::Floating,
            vec![name.clone()],
            place,
            format!("on {name}"),
        );
        host.host.address = Some(address);
        host.host.node_id = node_id;
        host.address_has_port = true;
        if self.accept('{') {
            self.host_body(draft, &mut host)?;
        } else {
            self.end_of_statement(false)?;
        }
        Ok(host)
    }

    /// `stacked-on-top-of RESOURCE {`.
    fn stacked(&mut self, draft: &mut Draft) -> Step<HostDraft> {
        let lower = self.name()?;
        let place = self.place(&lower);
        self.open()?;
        let label = format!("stacked-on-top-of {}", lower.text);
        let mut host = self.host_draft(HostKind::Stacked, vec![lower.text], place, label);
        self.host_body(draft, &mut host)?;
        Ok(host)
    }

    fn host_draft(
        &self,
        kind: HostKind,
        names: Vec<String>,
        place: Place,
        label: String,
    ) -> HostDraft {
        HostDraft {
            host: Host {
                kind,
                names,
                place,
                address: None,
                alternate_address: None,
                volumes: Vec::new(),
                sections: Sections::default(),
                proxy: None,
                node_id: None,
            },
            label,
            port: None,
            meta_index: None,
            address_has_port: false,
        }
    }

    fn host_body(&mut self, draft: &mut Draft, host: &mut HostDraft) -> Step<()> {
        loop {
            let token = self.next()?;
            if token.is('}') {
                return Ok(());
            }
            draft.assigned |= self.peek_raw().is('=');
            self.host_item(&token, draft, host)?;
        }
    }

    fn host_item(&mut self, token: &Token, draft: &mut Draft, host: &mut HostDraft) -> Step<()> {
        let key = format!("{}:{}", draft.name, host.host.names[0]);
        let word = if token.kind == Kind::Word {
            token.text.as_str()
        } else {
            ""
        };
        match word {
            "device" | "disk" | "meta-disk" | "flexible-meta-disk" => {
                let place = host.host.place.clone();
                let volume = implicit_volume(&mut host.host.volumes, place);
                if word.ends_with("meta-disk") {
                    self.statement_once(token, &key, &volume.place.clone());
                }
                self.volume_item(token, volume, &key)?;
            }
            "address" => {
                self.statement_once(token, &key, &host.host.place.clone());
                let assigned = self.assignment(token);
                let Portless { address, has_port } =
                    self.address(assigned || host.port.is_some())?;
                self.end_of_statement(assigned)?;
                host.host.address = Some(address);
                host.address_has_port = has_port;
            }
            "alternate-link-address" => {
                self.statement_once(token, &key, &host.host.place.clone());
                let Portless { address, .. } = self.address(false)?;
                self.end_of_statement(false)?;
                host.host.alternate_address = Some(address);
                let place = self.place(token);
                draft
                    .unserved
                    .push(("'alternate-link-address'".to_owned(), place));
            }
            "port" => {
                let assigned = self.assignment(token);
                let port = self.port()?;
                self.set_again(token, &mut host.port, port);
                self.end_of_statement(assigned)?;
            }
            "meta-index" => {
                let assigned = self.assignment(token);
                let index = self.integer_within("meta-index", 0, META_INDEX_MAX)?;
                let index = u32::try_from(index).unwrap_or(0);
                self.set_again(token, &mut host.meta_index, index);
                self.end_of_statement(assigned)?;
            }
            "volume" => {
                draft.explicit_volumes = true;
                let volume = self.volume(&key)?;
                let owner = host.host.place.clone();
                self.add_volume(&mut host.host.volumes, volume, &key, &owner);
            }
            "options" => {
                self.open()?;
                let section = OldSection::Now(Section::Options);
                self.option_section(section, &key, &mut host.host.sections)?;
            }
            "proxy" => {
                let place = self.place(token);
                draft.unserved.push(("'proxy on'".to_owned(), place));
                host.host.proxy = Some(self.host_proxy(&key)?);
            }
            "node-id" => {
                let id = self.node_id(token, draft)?;
                self.set_again(token, &mut host.host.node_id, id);
                self.end_of_statement(false)?;
            }
            "skip" => self.skip_in_resource(token)?,
            _ if token.is(';') => self.stray_semicolon(token),
            "on" | "net" | "handlers" | "startup" | "resource" | "floating" => {
                let hint = format!("is the '}}' missing that ends '{}'?", host.label);
                return self.expected(HOST_ITEMS, token, &hint);
            }
            _ => {
                let hint = suggest::hint(word, HOST_WORDS.iter().copied());
                return self.expected(HOST_ITEMS, token, &hint);
            }
        }
        Ok(())
    }

    /// `node-id N`, after the keyword: no two hosts of a resource have the same.
    fn node_id(&mut self, keyword: &Token, draft: &Draft) -> Step<u8> {
        let place = self.place(keyword);
        let id = self.integer_within("node-id", 0, 31)?;
        let key = format!("{}:{id}", draft.name);
        self.only_once_in(&format!("{:?}", draft.place), "node-id", &key, place);
        Ok(u8::try_from(id).unwrap_or(0))
    }

    pub(super) fn host_proxy(&mut self, key: &str) -> Step<HostProxy> {
        if !self.accept_word("on") {
            let token = self.next()?;
            return self.expected("on", &token, "");
        }
        let mut proxy = HostProxy {
            names: vec![self.name()?.text],
            inside: None,
            outside: None,
        };
        while self.peek_raw().is_text() {
            proxy.names.push(self.text()?.text);
        }
        self.open()?;
        loop {
            let token = self.next()?;
            match (&token.kind, token.text.as_str()) {
                (Kind::Punct('}'), _) => return Ok(proxy),
                (Kind::Word, "inside") => proxy.inside = Some(self.address(false)?.address),
                (Kind::Word, "outside") => proxy.outside = Some(self.address(false)?.address),
                (Kind::Word, "options") => {
                    self.open()?;
                    let mut sections = Sections::default();
                    self.option_section(OldSection::Now(Section::Proxy), key, &mut sections)?;
                    continue;
                }
                _ => return self.expected("inside | outside", &token, ""),
            }
            self.end_of_statement(false)?;
        }
    }

    /// Names become parts of paths and of `RES/VOLUME` selectors.
    fn check_name(&mut self, what: &str, token: &Token) {
        let bad = token.text.is_empty()
            || token.text.starts_with('.')
            || token.text.chars().any(|c| c == '/' || c.is_control());
        if bad {
            let problem = Problem::Value {
                name: what.to_owned(),
                value: token.text.escape_debug().to_string(),
                allowed: "names without '/' and control characters, that do not begin with '.'"
                    .to_owned(),
            };
            self.wrong(self.place(token), problem);
        }
    }

    /// Complains about the second `device`, `disk`, ... of one host or volume. Of several `meta-disk` the last one
    /// counts, except in a host section: there DRBD complains, too.
    pub(super) fn statement_once(&mut self, token: &Token, key: &str, owner: &Place) {
        let what = if token.text == "flexible-meta-disk" {
            "meta-disk"
        } else {
            token.text.as_str()
        };
        let place = self.place(token);
        self.only_once_in(
            &format!("{owner:?}"),
            &format!("{what} statement"),
            &format!("{key}:{what}"),
            place,
        );
    }

    /// Spreads the templates over the hosts, joins what 0.7 wrote in two statements, and looks for what is missing.
    fn finish(&mut self, draft: Draft, end: Place) -> Step<Resource> {
        self.count_volumes(&draft)?;
        let Draft {
            name,
            place,
            sections,
            templates,
            mut hosts,
            explicit_volumes,
            mut unserved,
            connections,
            assigned,
        } = draft;
        let mut sections = sections;
        for host in &mut hosts {
            fill(&mut host.host.volumes, &templates);
            host.host.volumes.sort_by_key(|v| v.number);
        }
        let is_of_9 = !connections.is_empty() || hosts.iter().any(|h| h.host.node_id.is_some());
        let mut joined = Joined {
            name: &name,
            place: &place,
            hosts: &mut hosts,
            sections: &mut sections,
            unserved: &mut unserved,
        };
        self.join(&mut joined, connections);
        let mut finished = Vec::with_capacity(hosts.len());
        let mut told = false;
        for mut host in hosts {
            if let Some(address) = &mut host.host.address
                && !host.address_has_port
            {
                address.port = host.port.unwrap_or(PORT_0_6);
            }
            for volume in &mut host.host.volumes {
                if let (Some(index), Some(MetaDisk::Flexible(path))) =
                    (host.meta_index, volume.meta.clone())
                {
                    volume.meta = Some(MetaDisk::Indexed(path, index));
                }
                if volume.meta.is_none() && is_of_9 && volume.disk != Some(Disk::None) {
                    volume.meta = Some(MetaDisk::Internal);
                }
                if volume.meta.is_none() && assigned {
                    volume.meta = Some(MetaDisk::Internal);
                    if !told {
                        told = true;
                        let text = format!(
                            "in resource {}: a configuration of DRBD 0.6 has no 'meta-disk'; 'meta-disk internal' is \
                             assumed, which needs room at the end of the disk",
                            quoted(&name)
                        );
                        let place = Some(volume.place.clone());
                        self.out.warnings.push(crate::Warning {
                            kind: WarningKind::Deprecated,
                            place,
                            text,
                        });
                    }
                }
            }
            self.missing(&name, &host, is_of_9);
            finished.push(host.host);
        }
        Ok(Resource {
            name,
            place,
            end,
            hosts: finished,
            sections,
            explicit_volumes,
            common: std::sync::Arc::default(),
            dropped_resync_after: false,
            unserved,
        })
    }

    /// What templates stand for is counted before it is made: a line for each host of a resource, and one for each of its
    /// volumes, are as many volumes as the product.
    fn count_volumes(&mut self, draft: &Draft) -> Step<()> {
        let hosts = draft.hosts.iter().map(|host| &host.host);
        let names: usize = hosts.clone().map(|host| host.names.len()).sum();
        // All hosts of a resource must have the same volumes.
        let written = hosts.map(|host| host.volumes.len());
        let volumes = written.fold(draft.templates.len(), usize::max);
        self.volumes = self.volumes.saturating_add(volumes.saturating_mul(names));
        let settings: usize = draft.templates.iter().map(|v| v.sections.len()).sum();
        self.volume_settings =
            (self.volume_settings).saturating_add(settings.saturating_mul(draft.hosts.len()));
        let (what, limit) = if self.volumes > VOLUMES_MAX {
            ("volumes on all hosts of all resources", VOLUMES_MAX)
        } else if self.volume_settings > VOLUME_SETTINGS_MAX {
            (
                "disk options of volumes on all hosts of all resources",
                VOLUME_SETTINGS_MAX,
            )
        } else {
            return Ok(());
        };
        let hint = format!(
            "resource {} has {volumes} volumes on {names} hosts",
            quoted(&draft.name)
        );
        let problem = Problem::TooMuch { what, limit };
        self.stop_with(Some(draft.place.clone()), problem, hint)
    }

    /// `is_of_9`: the address may stand elsewhere, or nowhere; that is said when the resource is to run.
    fn missing(&mut self, resource: &str, host: &HostDraft, is_of_9: bool) {
        let mut keywords = Vec::new();
        if host.host.address.is_none() && !is_of_9 {
            keywords.push("address");
        }
        for volume in &host.host.volumes {
            if volume.device.is_none() {
                keywords.push("device");
            }
            if host.host.kind == HostKind::Stacked {
                continue;
            }
            if volume.disk.is_none() {
                keywords.push("disk");
            }
            if volume.meta.is_none() && volume.disk != Some(Disk::None) {
                keywords.extend(["meta-disk", "meta-index"]);
            }
        }
        for keyword in keywords {
            let problem = Problem::Missing {
                resource: quoted(resource),
                section: host.label.clone(),
                keyword,
            };
            let hint = match keyword {
                "meta-disk" => "'meta-disk internal;' keeps it at the end of the disk",
                _ => "",
            };
            self.wrong_with(host.host.place.clone(), problem, hint.to_owned());
        }
    }
}
