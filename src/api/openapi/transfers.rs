//! Databases in and out, described.

use serde_json::{Value, json};

use super::members::named;
use super::{Operation, Paths, timeout};
use crate::api::access::Wish;
use crate::api::answer::ErrorBody;
use crate::api::transfer::{AtWork, BeginBody};
use crate::core::transfer::{Diverged, Imported, Uploaded};

pub(super) fn describe(paths: &mut Paths) {
    let kept = paths.schema::<Diverged>();
    let list = json!({"type": "array", "items": kept});
    add(
        paths,
        "get",
        "/diverged",
        "diverged",
        "What was set aside on this node",
        Wish::Read,
        Told { good: vec![(200, "It is told.", Some(list))], ..Told::default() },
    );
    let (begin, uploaded) = (paths.schema::<BeginBody>(), paths.schema::<Uploaded>());
    add(
        paths,
        "post",
        "/databases/{name}/import",
        "begin_import",
        "Begin an upload of a database, or go on with the one of the same bytes",
        Wish::Change,
        Told {
            body: Some(begin),
            good: vec![(200, "The next piece begins where it says.", Some(uploaded.clone()))],
            ..Told::default()
        },
    );
    let upload = "/databases/{name}/import/{upload}";
    let offset = json!({
        "name": "offset", "in": "query", "required": true,
        "description": "Where in the file the piece begins.",
        "schema": {"type": "integer", "minimum": 0},
    });
    add(
        paths,
        "put",
        upload,
        "import_piece",
        "The next piece, at most 8 MiB",
        Wish::Change,
        Told {
            parameters: vec![offset],
            good: vec![(200, "It is here.", Some(uploaded.clone()))],
            ..Told::default()
        },
    );
    let (done, at_work) = (paths.schema::<Imported>(), paths.schema::<AtWork>());
    let summary = "All is here: check it, and make it a database on all nodes";
    add(
        paths,
        "post",
        upload,
        "finish_import",
        summary,
        Wish::Change,
        Told {
            parameters: vec![timeout()],
            good: vec![
                (200, "It is a database now.", Some(done)),
                (202, "It is still at work; ask again.", Some(at_work)),
            ],
            ..Told::default()
        },
    );
    add(
        paths,
        "delete",
        upload,
        "forget_import",
        "Forget what came so far",
        Wish::Change,
        Told { good: vec![(200, "It is gone.", Some(uploaded))], ..Told::default() },
    );
    outwards(paths);
}

fn outwards(paths: &mut Paths) {
    let file = json!({"text": "application/vnd.sqlite3"});
    let exported = |parameters| Told {
        parameters,
        good: vec![(
            200,
            "The file; litefs-position says as of which position.",
            Some(file.clone()),
        )],
        ..Told::default()
    };
    let path = "/databases/{name}/export";
    let summary = "A database as a file, as of one position";
    add(paths, "get", path, "export", summary, Wish::Change, exported(vec![timeout()]));
    let which = json!({
        "name": "database", "in": "query", "required": false,
        "description": "Which of its databases, if there are several.",
        "schema": {"type": "string"},
    });
    let path = "/diverged/{id}/export";
    let summary = "A database that was set aside, as a file";
    add(paths, "get", path, "export_diverged", summary, Wish::Change, exported(vec![which]));
    let kept = paths.schema::<Diverged>();
    let summary = "Remove for good what was set aside";
    add(
        paths,
        "delete",
        "/diverged/{id}",
        "drop_diverged",
        summary,
        Wish::Change,
        Told { good: vec![(200, "It is gone.", Some(kept))], ..Told::default() },
    );
}

#[derive(Default)]
struct Told {
    parameters: Vec<Value>,
    body: Option<Value>,
    good: Vec<(u16, &'static str, Option<Value>)>,
}

fn add(
    paths: &mut Paths,
    method: &'static str,
    path: &'static str,
    id: &str,
    summary: &'static str,
    wish: Wish,
    told: Told,
) {
    let error = paths.schema::<ErrorBody<'static>>();
    let refusals = [
        (404, "There is none of that name."),
        (409, "The name is taken; nothing was changed."),
        (412, "It does not follow what is here."),
        (422, "It is no sound database, or not the bytes that were announced."),
        (503, "Not now; to be tried again."),
        (507, "The node's disk is full."),
    ];
    let refused = refusals.map(|(code, why)| (code, why, Some(error.clone())));
    let answers = if path == "/diverged" {
        told.good
    } else {
        told.good.into_iter().chain(refused).collect()
    };
    paths.add(Operation {
        path,
        method,
        id: id.to_owned(),
        summary,
        wish,
        parameters: named(path).into_iter().chain(told.parameters).collect(),
        body: told.body,
        answers,
    });
}
