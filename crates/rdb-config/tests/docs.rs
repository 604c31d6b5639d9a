//! The tables of `docs/configuration.md` are the option table of this crate. With `UPDATE_DOCS=1` the test writes them.

use rdb_config::Section;
use rdb_config::options::{OptionDef, Served, Type, all};
use std::fmt::Write;
use std::path::PathBuf;

fn row(def: &OptionDef) -> String {
    let bar = |text: &str| text.replace('|', "\\|");
    let (value, default) = match def.ty {
        Type::Number {
            min,
            default,
            max,
            unit,
        } => (
            format!("{min} to {max} {}", unit.name()),
            default.to_string(),
        ),
        Type::Bool { default } => (
            "yes, no".to_owned(),
            if default { "yes" } else { "no" }.to_owned(),
        ),
        Type::Words { words, default } => (
            words
                .iter()
                .map(|w| format!("`{w}`"))
                .collect::<Vec<_>>()
                .join(", "),
            default.to_owned(),
        ),
        Type::Text { max_len } => (format!("text, at most {max_len} bytes"), "none".to_owned()),
        Type::Hosts => ("host names, or `both`".to_owned(), "none".to_owned()),
        Type::ResourceRef => ("a resource, volume or minor".to_owned(), "none".to_owned()),
        Type::Words9 => ("not looked at".to_owned(), String::new()),
    };
    let served = match def.served {
        Served::Served | Served::ServedBut(_) => "yes".to_owned(),
        Served::Harmless(reason) => format!("no effect, with a warning: {reason}"),
        Served::Refused("") => "not yet: only the default is accepted".to_owned(),
        Served::Refused(reason) => format!("refused: {reason}"),
    };
    format!(
        "| `{}` | {} | {default} | {} |\n",
        def.name,
        bar(&value),
        bar(&served)
    )
}

fn tables() -> String {
    let mut text = String::new();
    for section in std::iter::once(Section::Global).chain(Section::IN_RESOURCE) {
        write!(text, "\n### `{} {{}}`\n\n| option | values | default | served |\n| --- | --- | --- | --- |\n", section.as_str())
            .expect("strings take everything");
        all()
            .filter(|o| o.section == section)
            .for_each(|o| text.push_str(&row(o)));
    }
    text
}

#[test]
fn the_users_reference_lists_every_option_as_it_is() {
    const BEGIN: &str = "<!-- options: begin -->\n";
    const END: &str = "\n<!-- options: end -->";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(&path).expect("the reference is there");
    let (head, rest) = text.split_once(BEGIN).expect("the begin mark");
    let (listed, tail) = rest.split_once(END).expect("the end mark");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{}{END}{tail}", tables())).expect("written");
        return;
    }
    assert_eq!(listed, tables(), "run this test with UPDATE_DOCS=1");
}
