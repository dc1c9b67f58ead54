//! Members, tokens and the CA, described.

use serde_json::{Value, json};

use super::{Operation, Paths, timeout};
use crate::api::access::Wish;
use crate::api::answer::ErrorBody;
use crate::api::members::{AddBody, TokenBody};
use crate::core::engine::MemberStatus;
use crate::core::members::Told;

/// Method, path, name, what it does, its body.
type Change = (&'static str, &'static str, &'static str, &'static str, Option<Value>);

pub(super) fn describe(paths: &mut Paths) {
    let members = paths.schema::<MemberStatus>();
    paths.add(Operation {
        path: "/members",
        method: "get",
        id: "members".to_owned(),
        summary: "The members, as this node sees them",
        wish: Wish::Read,
        parameters: Vec::new(),
        body: None,
        answers: vec![(200, "It is told.", Some(json!({"type": "array", "items": members})))],
    });
    let (add, token) = (paths.schema::<AddBody>(), paths.schema::<TokenBody>());
    let changes: [Change; 8] = [
        ("post", "/members", "add_member", "Add a node that has a certificate already", Some(add)),
        ("delete", "/members/{name}", "remove_member", "Remove a node, dead or alive", None),
        ("post", "/members/{name}/promote", "promote_member", "Let a learner vote", None),
        ("post", "/members/{name}/demote", "demote_member", "Make a voter a learner", None),
        ("get", "/tokens", "tokens", "The tokens, without their secrets", None),
        ("post", "/tokens", "create_token", "Make a token that lets one node join", Some(token)),
        ("delete", "/tokens/{id}", "revoke_token", "Make a token of no use", None),
        ("post", "/ca/rotate", "rotate_ca", "Replace the CA while the cluster runs", None),
    ];
    for (method, path, id, summary, body) in changes {
        let told = paths.schema::<Told>();
        let error = paths.schema::<ErrorBody<'static>>();
        let refused = |code, why| (code, why, Some(error.clone()));
        paths.add(Operation {
            path,
            method,
            id: id.to_owned(),
            summary,
            wish: Wish::Change,
            parameters: named(path).into_iter().chain([timeout()]).collect(),
            body,
            answers: vec![
                (200, "It is done.", Some(told.clone())),
                (202, "It is decided, and goes on by itself.", Some(told)),
                refused(404, "There is nothing of that name."),
                refused(409, "It is there already, or is so already."),
                refused(412, "It would do harm as things are; nothing was changed."),
                refused(503, "Nobody can now: no leader, or no majority."),
            ],
        });
    }
}

/// The parameters that stand in a path.
pub(super) fn named(path: &str) -> Vec<Value> {
    path.split(['{', '}'])
        .skip(1)
        .step_by(2)
        .map(|name| {
            json!({
                "name": name, "in": "path", "required": true,
                "schema": {"type": "string"},
            })
        })
        .collect()
}
