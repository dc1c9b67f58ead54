//! Any bytes as a question about writing, or as its answer.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use super::rpc::{Answer, Request};
use crate::cluster::{Command, Ticket};
use crate::core::{Boot, DatabaseName, NodeId, TransactionId};

pub fn rpc(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes) {
        let again = request.encode().map(|bytes| Request::decode(&bytes));
        assert_eq!(again, Ok(Ok(request)));
    }
    if let Ok(answer) = Answer::decode(bytes) {
        let again = answer.encode().map(|bytes| Answer::decode(&bytes));
        assert_eq!(again, Ok(Ok(answer)));
    }
}

pub fn rpcs() -> Vec<Vec<u8>> {
    let id = TransactionId { node: NodeId(1), boot: Boot(2), sequence: 3 };
    let ticket = Ticket { boot: Boot(2), number: 9 };
    let Ok(database) = DatabaseName::new("app.db") else { return Vec::new() };
    let requests = [
        Request::Propose { term: 4, command: Command::Abandon { id } },
        Request::Lock { term: 3, database: database.clone(), ticket },
        Request::Held { term: u64::MAX },
    ];
    let answers =
        [Answer::Granted { index: 77 }, Answer::Held { databases: vec![(database, ticket)] }];
    let requests = requests.iter().flat_map(Request::encode);
    requests.chain(answers.iter().flat_map(Answer::encode)).map(Vec::from).collect()
}
