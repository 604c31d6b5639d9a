//! DRBD 9's `connection {}` and `connection-mesh {}`: read, and joined with the hosts where a pair is meant.
//!
//! A connection of the resource's two hosts says what 8.4 says in other places: the addresses, `net {}`, and `disk {}`
//! options. What needs more than a pair is noted as not served and is refused when the resource is to run.

use super::resource::HostDraft;
use super::{Parser, Step};
use crate::dump::escape as quoted;
use crate::error::{Place, Problem, WarningKind};
use crate::lexer::{Kind, Token};
use crate::model::{Address, Section, Sections};
use crate::options::OldSection;
use std::collections::BTreeMap;
use std::sync::Arc;

const CONNECTION_ITEMS: &str = "host | path | net | disk | volume | skip | }";
const PATH_ITEMS: &str = "host | }";
const MESH_ITEMS: &str = "hosts | net | disk | }";

/// One `connection` or `connection-mesh` of a resource.
pub(super) struct Connection {
    keyword: &'static str,
    place: Place,
    ends: Vec<End>,
    /// How many `path {}` it has.
    paths: usize,
    proxy: Option<Place>,
    /// `net {}` and `disk {}`.
    sections: Sections,
    /// `disk {}` of single volumes.
    volumes: Vec<(u16, Sections)>,
}

/// A host that a connection names.
struct End {
    name: String,
    place: Place,
    address: Option<Address>,
    port: Option<u16>,
}

/// The parts of a resource that a connection speaks of.
pub(super) struct Joined<'a> {
    pub(super) name: &'a str,
    pub(super) place: &'a Place,
    pub(super) hosts: &'a mut [HostDraft],
    pub(super) sections: &'a mut Sections,
    pub(super) unserved: &'a mut Vec<(String, Place)>,
}

impl Parser {
    /// `connection [NAME] {`, after the keyword.
    pub(super) fn connection(&mut self, keyword: &Token, resource: &str) -> Step<Connection> {
        if self.peek_raw().is_text() {
            let name = self.next()?;
            let text = "the name of a connection has no effect".to_owned();
            self.warn(WarningKind::Deprecated, &name, text);
        }
        self.open()?;
        let mut connection = new_connection("connection", self.place(keyword));
        loop {
            let token = self.next()?;
            match (&token.kind, token.text.as_str()) {
                (Kind::Punct('}'), _) => return Ok(connection),
                (Kind::Punct(';'), _) => self.stray_semicolon(&token),
                (Kind::Word, "host") => self.end(resource, &mut connection)?,
                (Kind::Word, "path") => {
                    connection.paths += 1;
                    self.path(resource, &mut connection)?;
                }
                (Kind::Word, "skip") => self.skip_in_resource(&token)?,
                (Kind::Word, "volume") => {
                    let volume = self.connection_volume(resource)?;
                    connection.volumes.push(volume);
                }
                _ => {
                    self.connection_section(&token, resource, CONNECTION_ITEMS, &mut connection)?
                }
            }
        }
    }

    /// `connection-mesh {`, after the keyword.
    pub(super) fn connection_mesh(&mut self, keyword: &Token, resource: &str) -> Step<Connection> {
        self.open()?;
        let mut mesh = new_connection("connection-mesh", self.place(keyword));
        loop {
            let token = self.next()?;
            match (&token.kind, token.text.as_str()) {
                (Kind::Punct('}'), _) => return Ok(mesh),
                (Kind::Punct(';'), _) => self.stray_semicolon(&token),
                (Kind::Word, "skip") => self.skip_in_resource(&token)?,
                (Kind::Word, "hosts") => {
                    while self.peek_raw().is_text() {
                        let name = self.next()?;
                        let place = self.place(&name);
                        mesh.ends.push(new_end(name.text, place));
                    }
                    self.end_of_statement(false)?;
                }
                _ => self.connection_section(&token, resource, MESH_ITEMS, &mut mesh)?,
            }
        }
    }

    fn connection_section(
        &mut self,
        token: &Token,
        resource: &str,
        items: &str,
        connection: &mut Connection,
    ) -> Step<()> {
        if token.kind == Kind::Word && matches!(token.text.as_str(), "net" | "disk") {
            let key = format!("{resource}:{}", connection.keyword);
            let owner = connection.place.clone();
            self.section_or_protocol(token, &key, &owner, &mut connection.sections)?;
            return Ok(());
        }
        self.expected(items, token, "")
    }

    fn path(&mut self, resource: &str, connection: &mut Connection) -> Step<()> {
        self.open()?;
        loop {
            let token = self.next()?;
            match (&token.kind, token.text.as_str()) {
                (Kind::Punct('}'), _) => return Ok(()),
                (Kind::Punct(';'), _) => self.stray_semicolon(&token),
                (Kind::Word, "host") => self.end(resource, connection)?,
                _ => return self.expected(PATH_ITEMS, &token, ""),
            }
        }
    }

    /// `host NAME [address ADDRESS | port N] [via proxy on ... {}]`, after the keyword.
    fn end(&mut self, resource: &str, connection: &mut Connection) -> Step<()> {
        let name = self.name()?;
        let place = self.place(&name);
        let mut end = new_end(name.text, place);
        if self.accept_word("address") {
            end.address = Some(self.address(false)?.address);
        } else if self.accept_word("port") {
            end.port = Some(self.port()?);
        }
        let via = self.peek_raw().clone();
        let is_proxied = self.accept_word("via");
        if is_proxied {
            connection.proxy.get_or_insert(self.place(&via));
            if !self.accept_word("proxy") {
                let token = self.next()?;
                return self.expected("proxy", &token, "");
            }
            let key = format!("{resource}:{}", end.name);
            self.host_proxy(&key)?;
        }
        // A proxy's closing brace ends the statement.
        if !is_proxied || self.peek_raw().is(';') {
            self.end_of_statement(false)?;
        }
        connection.ends.push(end);
        Ok(())
    }

    fn connection_volume(&mut self, resource: &str) -> Step<(u16, Sections)> {
        let number = u16::try_from(self.integer_within("volume", 0, 65535)?).unwrap_or(0);
        self.open()?;
        let mut sections = Sections::default();
        loop {
            let token = self.next()?;
            if token.is('}') {
                return Ok((number, sections));
            }
            if token.is(';') {
                self.stray_semicolon(&token);
            } else if token.is_word("disk") {
                self.open()?;
                let key = format!("{resource}:{number}");
                self.option_section(OldSection::Now(Section::Disk), &key, &mut sections)?;
            } else {
                return self.expected("disk | }", &token, "");
            }
        }
    }

    /// Gives the hosts what the connections say of them.
    pub(super) fn join(&mut self, joined: &mut Joined<'_>, connections: Vec<Connection>) {
        let Some(first) = connections.first() else {
            return;
        };
        let by_name = by_name(joined.hosts);
        for connection in &connections {
            self.known_hosts(joined, &by_name, connection);
        }
        let keyword = first.keyword;
        let hosts = joined.hosts.len();
        let refused = if hosts > 2 {
            Some(format!("'{keyword}' (DRBD 9) of {hosts} hosts"))
        } else if connections.len() > 1 {
            Some("more than one 'connection' (DRBD 9)".to_owned())
        } else if first.paths > 1 {
            Some("more than one 'path' of a 'connection' (DRBD 9)".to_owned())
        } else {
            None
        };
        if let Some(what) = refused {
            joined.unserved.push((what, first.place.clone()));
        }
        for connection in &connections {
            if let Some(place) = &connection.proxy {
                joined
                    .unserved
                    .push(("'via proxy' (DRBD 9)".to_owned(), place.clone()));
            }
        }
        let is_pair = connections.len() == 1 && hosts <= 2;
        for mut connection in connections {
            for end in &connection.ends {
                if let Some(&at) = by_name.get(&end.name) {
                    take_address(&mut joined.hosts[at], end, is_pair);
                }
            }
            if !is_pair {
                continue;
            }
            // What the connection sets is nearer than what the resource sets.
            connection.sections.inherit(joined.sections);
            *joined.sections = connection.sections;
            for (number, sections) in &connection.volumes {
                for host in &mut *joined.hosts {
                    let volumes = &mut host.host.volumes;
                    // They are in the order of their numbers.
                    if let Ok(at) = volumes.binary_search_by_key(number, |v| v.number) {
                        let volume = &mut volumes[at];
                        let mut nearest = sections.clone();
                        nearest.inherit(&volume.sections);
                        volume.sections = Arc::new(nearest);
                    }
                }
            }
        }
    }

    /// Complains about a host without a section of its own.
    fn known_hosts(
        &mut self,
        joined: &mut Joined<'_>,
        by_name: &BTreeMap<String, usize>,
        connection: &Connection,
    ) {
        for end in &connection.ends {
            if by_name.contains_key(&end.name) {
                continue;
            }
            if end.address.is_some() {
                let what = format!(
                    "'{}' (DRBD 9) with '{}', which has no 'on' section,",
                    connection.keyword, end.name
                );
                joined.unserved.push((what, end.place.clone()));
                continue;
            }
            let problem = Problem::Resource {
                resource: quoted(joined.name),
                of: String::new(),
                text: format!(
                    "\n\tThere is no 'on' section for hostname '{}' named in the {}",
                    end.name, connection.keyword
                ),
            };
            self.wrong(joined.place.clone(), problem);
        }
    }
}

/// The first host that is called so.
fn by_name(hosts: &[HostDraft]) -> BTreeMap<String, usize> {
    let mut by_name = BTreeMap::new();
    for (at, host) in hosts.iter().enumerate() {
        for name in host.called() {
            by_name.entry(name.clone()).or_insert(at);
        }
    }
    by_name
}

fn take_address(host: &mut HostDraft, end: &End, is_pair: bool) {
    if let Some(address) = &end.address {
        // Of several connections the first one says where a host is; they are refused later.
        if is_pair || host.host.address.is_none() {
            host.host.address = Some(address.clone());
            host.address_has_port = true;
        }
    } else if let (Some(port), Some(address), true) = (end.port, &mut host.host.address, is_pair) {
        address.port = port;
        host.address_has_port = true;
    }
}

fn new_connection(keyword: &'static str, place: Place) -> Connection {
    Connection {
        keyword,
        place,
        ends: Vec::new(),
        paths: 0,
        proxy: None,
        sections: Sections::default(),
        volumes: Vec::new(),
    }
}

fn new_end(name: String, place: Place) -> End {
    End {
        name,
        place,
        address: None,
        port: None,
    }
}
