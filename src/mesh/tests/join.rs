//! The door for those who are no members yet.

use std::sync::Mutex;

use super::*;

/// Keeps what came in, and answers with a refusal.
#[derive(Default)]
struct Asked(Mutex<Vec<JoinRequest>>);

impl JoinHandler for Asked {
    fn join(&self, request: JoinRequest) -> BoxFuture<'_, JoinAnswer> {
        let why = format!("not today, {}", request.name);
        self.0.lock().expect("a lock").push(request);
        Box::pin(std::future::ready(JoinAnswer::Refused(why)))
    }
}

struct Door {
    asked: Arc<Asked>,
    listening: Listening,
    mesh: Mesh,
}

async fn door(ca: &Ca) -> Door {
    let asked = Arc::new(Asked::default());
    let handlers = Handlers {
        rpc: Arc::new(TestRpc { gate: Arc::new(Semaphore::new(0)), held: Arc::default() }),
        raft: Arc::new(NoStreams),
        bulk: Arc::new(NoStreams),
        litefs: Arc::new(NoStreams),
        joins: Arc::clone(&asked) as _,
    };
    let mesh = Mesh::new(config(ca, 1, Vec::new())).expect("a mesh");
    let listening = mesh.listen_on("127.0.0.1:0", handlers).await.expect("a port");
    Door { asked, listening, mesh }
}

fn request(token: &JoinToken) -> JoinRequest {
    let (_, request_pem) = request_certificate().expect("a request");
    JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret(),
        name: "n9".into(),
        address: "h:1".into(),
        request_pem,
        unix_ms: 7,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_ca_asks_and_is_answered() {
    let ca = Ca::create("test").expect("a CA");
    let door = door(&ca).await;
    let token = JoinToken::create(ca.certificate_pem()).expect("a token");
    let wish = request(&token);
    let address = door.listening.local_addr().to_string();
    let answer = soon("an answer", ask_to_join(&address, &token, &wish)).await.expect("answered");
    assert_eq!(answer, JoinAnswer::Refused("not today, n9".into()));
    assert_eq!(*door.asked.0.lock().expect("a lock"), [wish]);
}

/// no-open-door, from the other side: a secret is told to nobody but the token's cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_hears_nothing() {
    let (ca, other) = (Ca::create("test").expect("a CA"), Ca::create("test").expect("a CA"));
    let door = door(&ca).await;
    let token = JoinToken::create(other.certificate_pem()).expect("a token");
    let address = door.listening.local_addr().to_string();
    let asked = soon("an error", ask_to_join(&address, &token, &request(&token))).await;
    assert!(matches!(asked, Err(JoinError::Stranger { .. })), "{asked:?}");
    assert!(door.asked.0.lock().expect("a lock").is_empty());
}

/// While a CA is rotated both are trusted, and after a change new connections show what is new.
#[tokio::test(flavor = "multi_thread")]
async fn identities_are_changed_while_the_mesh_runs() {
    let (old, new) = (Ca::create("test").expect("a CA"), Ca::create("test").expect("a CA"));
    let both = format!("{}{}", old.certificate_pem(), new.certificate_pem());
    let nodes = nodes(&old, 2).await;
    let (one, two) = (&nodes[0], &nodes[1]);
    let fresh = |name| new.issue(name).expect("an identity");
    let refused = one.mesh.set_identity(&fresh("node1"), old.certificate_pem());
    assert!(matches!(refused, Err(MeshError::Identity { .. })), "{refused:?}");
    for node in [one, two] {
        let identity = old.issue(&node.mesh.me().name).expect("an identity");
        node.mesh.set_identity(&identity, &both).expect("trusted");
    }
    one.mesh.set_identity(&fresh("node1"), &both).expect("good");
    two.mesh.connect(NodeId(1), Purpose::Bulk).await.expect("the new one is trusted");
    two.mesh.set_identity(&fresh("node2"), new.certificate_pem()).expect("good");
    one.mesh.connect(NodeId(2), Purpose::Bulk).await.expect("as here");
    let token = JoinToken::create(new.certificate_pem()).expect("a token");
    let door = door(&new).await;
    door.mesh.set_identity(&fresh("node1"), &both).expect("good");
    let address = door.listening.local_addr().to_string();
    let joined = ask_to_join(&address, &token, &request(&token)).await;
    assert!(matches!(joined, Ok(JoinAnswer::Refused(_))), "{joined:?}");
}
