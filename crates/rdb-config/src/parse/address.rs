//! `address`, `port` and what looks like them: `docs/spec/admin.md`, section 1.5.

use super::{Parser, Step};
use crate::error::Problem;
use crate::lexer::{Kind, Token};
use crate::model::{Address, Family};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port of 0.6 configurations that name none: `docs/spec/admin.md`, section 1.8.
pub(super) const PORT_0_6: u16 = 7788;

/// An address whose port stands in a statement of its own.
pub(super) struct Portless {
    pub(super) address: Address,
    pub(super) has_port: bool,
}

impl Parser {
    /// `[FAMILY] IP:PORT`; without the port only where `port N;` may follow.
    pub(super) fn address(&mut self, port_elsewhere: bool) -> Step<Portless> {
        let first = self.next()?;
        let place = self.place(&first);
        let word = if first.kind == Kind::Word {
            first.text.as_str()
        } else {
            ""
        };
        let (family, ip, scope) = match word {
            "ipv6" => {
                let (ip, scope) = self.ipv6()?;
                (Family::Ipv6, IpAddr::V6(ip), scope)
            }
            "ipv4" | "sdp" | "ssocks" | "sci" => {
                let family = match word {
                    "ipv4" => Family::Ipv4,
                    "sdp" => Family::Sdp,
                    _ => Family::Ssocks,
                };
                let token = self.next()?;
                let Ok(ip) = token.text.parse::<Ipv4Addr>() else {
                    return self.expected("TK_IPADDR", &token, "");
                };
                (family, IpAddr::V4(ip), None)
            }
            _ => match word.parse::<Ipv4Addr>() {
                Ok(ip) => (Family::Ipv4, IpAddr::V4(ip), None),
                Err(_) => {
                    let hint = if first.is_text() {
                        "host names are not possible here"
                    } else {
                        ""
                    };
                    return self.expected(
                        "ssocks | sdp | ipv4 | ipv6 | <ipv4 address> ",
                        &first,
                        hint,
                    );
                }
            },
        };
        let mut address = Address {
            family,
            ip,
            scope,
            port: PORT_0_6,
            place,
        };
        if !self.peek_raw().is(':') {
            if port_elsewhere || (self.peek_raw().is(';') && self.peek_second().is_word("port")) {
                return Ok(Portless {
                    address,
                    has_port: false,
                });
            }
            let token = self.next()?;
            return self.expected(":", &token, "the port is missing");
        }
        self.at += 1;
        address.port = self.port()?;
        Ok(Portless {
            address,
            has_port: true,
        })
    }

    /// A port number.
    pub(super) fn port(&mut self) -> Step<u16> {
        let token = self.integer()?;
        match token.text.parse::<u64>() {
            Ok(port @ 1..=65535) => Ok(u16::try_from(port).unwrap_or(PORT_0_6)),
            other => {
                let value = other.map_or(i128::MAX, i128::from);
                self.range("port", &token, value, 1, 65535);
                Ok(PORT_0_6)
            }
        }
    }

    /// A bare number.
    pub(super) fn integer(&mut self) -> Step<Token> {
        let token = self.next()?;
        if token.kind == Kind::Word
            && token.text.len() <= 18
            && token.text.bytes().all(|b| b.is_ascii_digit())
        {
            Ok(token)
        } else {
            self.expected("TK_INTEGER", &token, "")
        }
    }

    /// A bare number within a range; outside of it `min`, and the error is noted.
    pub(super) fn integer_within(&mut self, name: &str, min: i64, max: i64) -> Step<i64> {
        let token = self.integer()?;
        let value = token.text.parse::<i64>().unwrap_or(i64::MAX);
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        self.range(name, &token, value.into(), min, max);
        Ok(min)
    }

    fn range(&mut self, name: &str, token: &Token, value: i128, min: i64, max: i64) {
        let problem = Problem::Range {
            name: name.to_owned(),
            given: token.text.clone(),
            value,
            min,
            max,
            unit: "",
        };
        self.wrong(self.place(token), problem);
    }

    /// `[V6%SCOPE]`.
    fn ipv6(&mut self) -> Step<(Ipv6Addr, Option<String>)> {
        let open = self.next()?;
        if !open.is('[') {
            let mut got = open;
            while self.peek_raw().glued
                && matches!(self.peek_raw().kind, Kind::Word | Kind::Punct(':' | '%'))
            {
                let more = self.next()?;
                got.text.push_str(&more.text);
            }
            return self.expected("[", &got, "an IPv6 address stands in brackets");
        }
        let first = self.peek_raw().clone();
        let mut text = String::new();
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::Punct(']') => break,
                Kind::Word | Kind::Punct(':' | '%') => text.push_str(&token.text),
                _ => return self.expected("]", &token, ""),
            }
        }
        let (ip, scope) = match text.split_once('%') {
            Some((ip, scope)) => (ip, Some(scope.to_owned())),
            None => (text.as_str(), None),
        };
        let scope_is_plain = scope
            .as_ref()
            .is_none_or(|s| !s.is_empty() && !s.contains(['/', ':', '%']) && s != "..");
        match ip.parse() {
            Ok(ip) if scope_is_plain => Ok((ip, scope)),
            _ => self.expected("TK_IPADDR6", &Token { text, ..first }, ""),
        }
    }
}
