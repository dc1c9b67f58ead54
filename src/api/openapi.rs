//! The API described as `OpenAPI` 3.1: `GET /openapi.json`, and docs/openapi.json.
//!
//! The schemas come from the types that are answered; paths, parameters and codes stand here. A test
//! holds this list against the routes, another what a real node answers against the schemas.

mod members;
mod transfers;

use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::access::Wish;
use super::admin::{CheckBody, SwitchoverBody};
use super::answer::ErrorBody;
use super::health::Health;
use crate::core::config::ConfigView;
use crate::core::engine::{BarrierPassed, CheckedDatabase, DatabaseStatus, Status, Switchover};
use crate::core::history::LeaderChange;

pub(super) async fn serve() -> Json<Value> {
    Json(document())
}

/// The whole document.
#[must_use]
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut paths = Paths { schemas: settings.into_generator(), paths: Map::new() };
    health(&mut paths);
    looking(&mut paths);
    changing(&mut paths);
    members::describe(&mut paths);
    transfers::describe(&mut paths);
    let Paths { mut schemas, paths } = paths;
    let mut schemas = Value::Object(schemas.take_definitions(true));
    plain_choices(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "litefs-py",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Health checks, metrics and administration of a node",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://127.0.0.1:8008", "description": "api.listen of the configuration"}],
        "tags": [
            {"name": "health", "description": "For load balancers: anyone may ask; they tell no data."},
            {"name": "look", "description": "What changes nothing."},
            {"name": "change", "description": "What changes something."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "What api.token_file holds.",
                },
            },
        },
    })
}

/// A choice of words, each with what it means, as one list of words: what makes clients from this
/// document does not understand the other.
fn plain_choices(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(plain_choices),
        Value::Object(keys) => {
            keys.values_mut().for_each(plain_choices);
            let Some(choices) = keys.get("oneOf").and_then(Value::as_array) else { return };
            let (mut words, mut meanings) = (Vec::new(), Vec::new());
            for choice in choices {
                let word = choice.get("const").cloned();
                let several = choice.get("enum").and_then(Value::as_array).cloned();
                let these = several.unwrap_or_else(|| word.into_iter().collect());
                // Something else than a choice of words.
                if these.is_empty() {
                    return;
                }
                if let (Some(meaning), [word]) = (choice.get("description"), &these[..]) {
                    let meaning = meaning.as_str().unwrap_or_default();
                    meanings.push(format!("`{}`: {meaning}", word.as_str().unwrap_or_default()));
                }
                words.extend(these);
            }
            let about = keys.get("description").and_then(Value::as_str).unwrap_or_default();
            let about = format!("{about}\n\n{}", meanings.join("\n\n"));
            keys.remove("oneOf");
            keys.insert("type".to_owned(), json!("string"));
            keys.insert("enum".to_owned(), Value::Array(words));
            keys.insert("description".to_owned(), json!(about.trim()));
        }
        _ => {}
    }
}

const ABOUT: &str = "The same API is on the Unix socket of the node (api.socket), which only root and the \
service's group open: there nothing needs a token. On a loopback address what changes nothing needs \
none. On any other, all but the health checks needs it, and /metrics by the setting api.expose_metrics.\n\n\
Durations are written as 50ms, 5s, 1m. Errors are one line of text: what failed, and what to do.";

/// The paths so far, and the schemas that they name.
struct Paths {
    schemas: SchemaGenerator,
    paths: Map<String, Value>,
}

/// What is told of one operation.
struct Operation {
    path: &'static str,
    method: &'static str,
    id: String,
    summary: &'static str,
    wish: Wish,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Vec<(u16, &'static str, Option<Value>)>,
}

impl Paths {
    fn schema<T: JsonSchema>(&mut self) -> Value {
        self.schemas.subschema_for::<T>().to_value()
    }

    fn add(&mut self, operation: Operation) {
        let Operation { path, method, id, summary, wish, parameters, body, mut answers } =
            operation;
        let error = self.schema::<ErrorBody<'static>>();
        let mut failing = |code, why| answers.push((code, why, Some(error.clone())));
        if wish != Wish::Health {
            failing(401, "The token is missing, or it is another.");
            failing(403, "This needs a token, and the node has none: ask through its Unix socket.");
            failing(500, "The node cannot do it; its log says why.");
            if !answers.iter().any(|(code, ..)| *code == 503) {
                answers.push((503, "It was not answered in time.", Some(error.clone())));
            }
        }
        if body.is_some() {
            let mut failing = |code, why| answers.push((code, why, Some(error.clone())));
            failing(408, "The body did not arrive in time.");
            failing(413, "The body is longer than 64 KiB.");
        }
        if body.is_some() || !parameters.is_empty() {
            answers.push((400, "A parameter, or the body, cannot be read.", Some(error)));
        }
        answers.sort_by_key(|(code, ..)| *code);
        let answers: Map<String, Value> = answers
            .into_iter()
            .map(|(code, why, schema)| {
                let mut answer = json!({"description": why});
                if let Some(schema) = schema {
                    let kind = schema.get("text").and_then(Value::as_str);
                    answer["content"] = match kind {
                        Some(kind) => json!({kind: {"schema": {"type": "string"}}}),
                        None => json!({"application/json": {"schema": schema}}),
                    };
                }
                (code.to_string(), answer)
            })
            .collect();
        let (tag, security) = match wish {
            Wish::Health => ("health", json!([])),
            Wish::Metrics | Wish::Read => ("look", json!([{}, {"token": []}])),
            Wish::Change => ("change", json!([{"token": []}])),
        };
        let mut told = json!({
            "operationId": id, "summary": summary, "tags": [tag],
            "security": security, "responses": answers,
        });
        if !parameters.is_empty() {
            told["parameters"] = Value::Array(parameters);
        }
        if let Some(schema) = body {
            told["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
        }
        let at = self.paths.entry(path).or_insert_with(|| json!({}));
        at[method] = told;
    }
}

fn health(paths: &mut Paths) {
    let checks = [
        ("/primary", "primary", "Whether this node leads, and has a majority behind it"),
        ("/replica", "replica", "Whether this node serves reads, and does not lead"),
        ("/read-only", "read_only", "Whether this node serves reads, in any role"),
        ("/health", "health", "Whether this node's mount is up"),
        ("/liveness", "liveness", "Whether this process is to be left alone; 503: start it again"),
        ("/readiness", "readiness", "Whether this node should get work"),
    ];
    for (path, id, summary) in checks {
        let schema = paths.schema::<Health<'static>>();
        for (method, id) in [
            ("get", id.to_owned()),
            ("head", format!("head_{id}")),
            ("options", format!("options_{id}")),
        ] {
            let schema = (method == "get").then(|| schema.clone());
            let parameters = if path == "/replica" {
                vec![json!({
                    "name": "lag", "in": "query", "required": false,
                    "description": "How far behind it may be: milliseconds, or a duration.",
                    "schema": {"type": "string", "examples": ["500", "2s"]},
                })]
            } else {
                Vec::new()
            };
            paths.add(Operation {
                path,
                method,
                id,
                summary,
                wish: Wish::Health,
                parameters,
                body: None,
                answers: vec![(200, "It is so.", schema.clone()), (503, "It is not so.", schema)],
            });
        }
    }
}

fn looking(paths: &mut Paths) {
    let text = json!({"text": "text/plain"});
    let list = |schema: Value| json!({"type": "array", "items": schema});
    let status = paths.schema::<Status>();
    let databases = list(paths.schema::<DatabaseStatus>());
    let history = list(paths.schema::<LeaderChange>());
    let config = paths.schema::<ConfigView>();
    let document = json!({"type": "object", "description": "This document."});
    let looks = [
        ("/cluster", "cluster", "This node, and the cluster as it sees it", Wish::Read, status),
        (
            "/databases",
            "databases",
            "The databases, as this node has applied them",
            Wish::Read,
            databases,
        ),
        (
            "/history",
            "history",
            "Who led when, and why that changed; the newest last",
            Wish::Read,
            history,
        ),
        (
            "/config",
            "config",
            "The configuration that runs, and where it comes from",
            Wish::Read,
            config,
        ),
        ("/openapi.json", "openapi", "This API", Wish::Read, document),
        (
            "/metrics",
            "metrics",
            "For Prometheus; OpenMetrics for who accepts it",
            Wish::Metrics,
            text,
        ),
    ];
    for (path, id, summary, wish, schema) in looks {
        paths.add(Operation {
            path,
            method: "get",
            id: id.to_owned(),
            summary,
            wish,
            parameters: Vec::new(),
            body: None,
            answers: vec![(200, "It is told.", Some(schema))],
        });
    }
    let error = paths.schema::<ErrorBody<'static>>();
    let passed = paths.schema::<BarrierPassed>();
    paths.add(Operation {
        path: "/barrier",
        method: "post",
        id: "barrier".to_owned(),
        summary: "Wait until this node shows all that was committed before the question",
        wish: Wish::Read,
        parameters: vec![timeout()],
        body: None,
        answers: vec![
            (200, "A read here now is linearizable.", Some(passed)),
            (503, "Not within the time, or there is no leader to ask.", Some(error)),
        ],
    });
}

fn changing(paths: &mut Paths) {
    let error = paths.schema::<ErrorBody<'static>>();
    let told = |code, why| (code, why, Some(error.clone()));
    let done = paths.schema::<Switchover>();
    let wish = paths.schema::<SwitchoverBody>();
    paths.add(Operation {
        path: "/switchover",
        method: "post",
        id: "switchover".to_owned(),
        summary: "Hand the leadership over, to the named node or to the one that is furthest",
        wish: Wish::Change,
        parameters: vec![timeout()],
        body: Some(wish),
        answers: vec![
            (200, "It leads now.", Some(done.clone())),
            (202, "It was asked to; it had not taken over when the time was up.", Some(done)),
            told(412, "Not as things are: no such member, or it leads already."),
            told(503, "Nobody can now: no leader, or no majority."),
        ],
    });
    let (asked, checked) = (paths.schema::<CheckBody>(), paths.schema::<CheckedDatabase>());
    paths.add(Operation {
        path: "/check",
        method: "post",
        id: "check".to_owned(),
        summary: "Read a database byte by byte on every node, beside its writers",
        wish: Wish::Change,
        parameters: vec![timeout()],
        body: Some(asked),
        answers: vec![(200, "What each node has.", Some(checked))],
    });
    let view = paths.schema::<ConfigView>();
    let patch = json!({
        "type": "object",
        "description": "A JSON merge patch of the configuration; null takes a change back.",
        "examples": [{"log": {"level": "debug"}}],
    });
    paths.add(Operation {
        path: "/config",
        method: "patch",
        id: "change_config".to_owned(),
        summary: "Change settings while the node runs: all of them, or nothing",
        wish: Wish::Change,
        parameters: Vec::new(),
        body: Some(patch),
        answers: vec![
            (200, "What runs now.", Some(view)),
            told(412, "A setting needs a restart; nothing was changed."),
            told(422, "A key is unknown, or a value is wrong; nothing was changed."),
        ],
    });
}

fn timeout() -> Value {
    json!({
        "name": "timeout", "in": "query", "required": false,
        "description": "How long it may take: a duration, at most 60s.",
        "schema": {"type": "string", "default": "10s", "pattern": "^[0-9]+ ?(us|ms|s|m|h)$"},
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every route is described, and what is described is a route.
    #[test]
    fn the_document_has_the_routes() {
        let mut routes = BTreeSet::new();
        let sources = concat!(include_str!("server.rs"), include_str!("transfer.rs"));
        for part in sources.split(".route(\"").skip(1) {
            let (path, rest) = part.split_once("\",").unwrap();
            let statement = rest.split('\n').next().unwrap();
            for method in ["get(", "post(", "put(", "patch(", "delete(", "options("] {
                if statement.contains(method) {
                    routes.insert((path.to_owned(), method.trim_end_matches('(').to_owned()));
                }
            }
        }
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys().filter(|m| *m != "head") {
                described.insert((path.clone(), method.clone()));
            }
        }
        assert_eq!(described, routes);
    }

    /// docs/openapi.json is made by `litefs-py openapi`.
    #[test]
    fn the_file_is_up_to_date() {
        let kept: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
        assert_eq!(kept, document(), "litefs-py openapi > docs/openapi.json");
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let document = document();
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for named in text.split("\"#/components/schemas/").skip(1) {
            let name = named.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        let ids: Vec<_> = text.match_indices("\"operationId\"").collect();
        // Health; looking; barrier; changing; members; transfers.
        assert_eq!(ids.len(), 6 * 3 + 6 + 1 + 3 + 9 + 8);
    }
}
