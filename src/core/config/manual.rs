//! docs/configuration.md, made from the doc comments of the types.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Config, LIVE, Member, show};

/// The sections of the file in their order; the empty name is the top.
const SECTIONS: [&str; 10] =
    ["", "node", "members", "mount", "mesh", "mesh.tls", "api", "raft", "write", "litefs"];

const LAST_SECTION: &str = "log";

/// The JSON schema of the configuration file.
#[must_use]
pub fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
    });
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// A configuration of a three-node cluster with every default.
#[must_use]
pub fn example() -> Config {
    let members = (1..=3)
        .map(|id| Member { id, name: format!("n{id}"), address: format!("10.0.0.{id}:4321") })
        .collect();
    Config { bootstrap: true, ..Config::new("app", 1, members) }
}

/// The manual page, in Markdown.
#[must_use]
pub fn manual() -> String {
    let schema = schema();
    let live = LIVE.map(|key| format!("`{key}`")).join(", ");
    let mut page = "# Configuration\n\n\
         <!-- Made by `litefs-py config docs` from the doc comments in src/core/config/types.rs. \
         Do not edit. -->\n\n\
         `/etc/litefs-py/config.yml`, strict YAML: an unknown key is an error that names the key, \
         its line and the nearest known key. `litefs-py config check` checks a file, `litefs-py \
         config show` prints it with every default, `litefs-py config schema` prints its JSON \
         schema. With a wrong file, the node ends with exit code 78 and one line for each \
         problem.\n\n\
         Some settings can be changed while the node runs, by `litefs-py config set` or `PATCH \
         /config`: LIVE. Such a change is kept in the data folder over restarts, until it is taken \
         back (`litefs-py config set KEY null`); the file is not written to. `litefs-py config diff` \
         shows what differs from the file.\n\n\
         A *duration* is a whole number and one of `us`, `ms`, `s`, `m`, `h`: `50ms`. A *size* is \
         a whole number and one of `B`, `KiB`, `MiB`, `GiB`, `TiB`: `64MiB`.\n"
        .replace("LIVE", &live);
    for name in SECTIONS.into_iter().chain([LAST_SECTION]) {
        section(&mut page, &schema, name);
    }
    page.push_str("\n## Every default\n\n```yaml\n");
    page.push_str(&show(&example()).unwrap_or_default());
    page.push_str("```\n");
    page
}

/// The schema of a section: `mesh.tls` is the property `tls` of the property `mesh`.
fn find<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let mut here = schema;
    for part in name.split('.').filter(|part| !part.is_empty()) {
        here = here.get("properties")?.get(part)?;
        here = here.get("items").unwrap_or(here);
    }
    Some(here)
}

fn section(page: &mut String, schema: &Value, name: &str) {
    let Some(here) = find(schema, name) else { return };
    let title = if name.is_empty() { "The file" } else { name };
    let _ = write!(page, "\n## {title}\n");
    if !name.is_empty() {
        let _ = write!(page, "\n{}\n", description(here));
    }
    page.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
    let required: Vec<&str> = here
        .get("required")
        .and_then(Value::as_array)
        .map(|keys| keys.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (key, property) in here.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let default = match property.get("default") {
            _ if required.contains(&key.as_str()) => "required".to_owned(),
            Some(Value::Object(_)) => "see below".to_owned(),
            Some(Value::Null) | None => "none".to_owned(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(other) => format!("`{other}`"),
        };
        let _ = writeln!(
            page,
            "| `{key}` | {} | {default} | {}{} |",
            type_of(property),
            description(property),
            choices(property)
        );
    }
}

fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.replace('\n', " ")
}

fn type_of(schema: &Value) -> &str {
    let format = schema.get("format").and_then(Value::as_str);
    let named = match schema.get("type") {
        Some(Value::String(name)) => Some(name.as_str()),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|n| *n != "null"),
        _ => None,
    };
    match (format, named) {
        (Some("duration" | "size" | "file mode"), _) => format.unwrap_or_default(),
        (_, Some("boolean")) => "true or false",
        (_, Some("integer")) => "number",
        (_, Some("array")) => "list",
        (_, Some("object")) => "section",
        (_, Some("string")) if schema.get("enum").is_none() => "text",
        _ => "choice",
    }
}

/// The values of an enumeration with their meanings.
fn choices(schema: &Value) -> String {
    let mut text = String::new();
    for choice in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        let value = choice.get("const").and_then(Value::as_str).unwrap_or_default();
        let _ = write!(text, "<br>`{value}`: {}", description(choice));
    }
    text
}
