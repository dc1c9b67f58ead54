//! News of peers: their death is seen at once, their return too.

use tokio::sync::broadcast::{self, Receiver};

use super::*;

async fn next(events: &mut Receiver<PeerEvent>, node: NodeId) -> PeerEventKind {
    loop {
        let event = soon("an event", events.recv()).await.expect("not missed");
        if event.node == node {
            return event.kind;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_is_seen_as_broken_then_refused_and_a_return_as_up() {
    let ca = Ca::create("test").expect("a CA");
    let mut nodes = nodes(&ca, 3).await;
    let (three, two, one) = (nodes.pop(), nodes.pop(), nodes.pop());
    let (one, two, three) = (one.expect("1"), two.expect("2"), three.expect("3"));
    let id = NodeId(2);
    let all_up = || {
        [NodeId(2), NodeId(3)].iter().all(|n| one.mesh.peer_state(*n) == Some(PeerEventKind::Up))
    };
    until("all are up", all_up).await;

    let mut events = one.mesh.peer_events();
    let address = two.address();
    let peers = vec![one.peer(), two.peer(), three.peer()];
    two.die().await;
    assert_eq!(next(&mut events, id).await, PeerEventKind::Broken);
    assert_eq!(next(&mut events, id).await, PeerEventKind::Refused);
    assert_eq!(one.mesh.peer_state(id), Some(PeerEventKind::Refused));
    let refused = one.mesh.connect(id, Purpose::Raft).await.expect_err("dead");
    assert!(refused.is_refused());

    let _two = Node::start_at(config(&ca, 2, peers), &address).await;
    assert_eq!(next(&mut events, id).await, PeerEventKind::Up);
    let answer = one.mesh.call(id, ECHO, "back".into(), SOON).await;
    assert_eq!(answer.as_deref(), Ok(&b"back"[..]));
    assert_eq!(one.mesh.peer_state(NodeId(3)), Some(PeerEventKind::Up), "untouched by all that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_alone_is_no_death() {
    let (one, two) = two().await;
    let id = NodeId(2);
    until("up", || one.mesh.peer_state(id) == Some(PeerEventKind::Up)).await;
    let mut events = one.mesh.peer_events();
    two.mesh.set_peers(Vec::new()).expect("peers");
    assert_eq!(next(&mut events, id).await, PeerEventKind::Broken);
    two.mesh.set_peers(vec![one.peer()]).expect("peers");
    assert_eq!(next(&mut events, id).await, PeerEventKind::Up, "never refused");
    one.mesh.call(id, ECHO, Bytes::new(), SOON).await.expect("an answer");
}

/// A node 2 that lets node 1 in, and does nothing more: the connection.
async fn frozen(ca: &Ca, listener: &tokio::net::TcpListener) -> Connection {
    let identity = ca.issue("node2").expect("an identity");
    let name = "node2.test.litefs.internal";
    let tls = tls::Tls::new(&identity, ca.certificate_pem(), name).expect("good");
    let (stream, _) = listener.accept().await.expect("a client");
    let admitted = handshake::admit(stream, &tls, "test", NodeId(2), |_| Some(NodeId(1))).await;
    match admitted.expect("let in") {
        handshake::Admitted::Member { connection, .. } => connection,
        handshake::Admitted::Joiner(_) => panic!("no member"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_peer_is_noticed() {
    let ca = Ca::create("test").expect("a CA");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mesh = Mesh::new(config(&ca, 1, vec![peer(2, &address)])).expect("a mesh");
    let mut events = mesh.peer_events();
    let _connection = soon("the hello", frozen(&ca, &listener)).await;
    assert_eq!(next(&mut events, NodeId(2)).await, PeerEventKind::Up);
    let lost = mesh.call(NodeId(2), ECHO, Bytes::new(), 3 * SOON).await.expect_err("frozen");
    assert_eq!(lost, CallError::Broken { node: NodeId(2) });
    assert_eq!(next(&mut events, NodeId(2)).await, PeerEventKind::Broken);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_stays() {
    let (one, two) = two().await;
    until("up", || one.mesh.peer_state(NodeId(2)) == Some(PeerEventKind::Up)).await;
    let mut events = one.mesh.peer_events();
    // Longer than the silence that means a frozen process.
    let quiet = timeout(Duration::from_secs(4), events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    drop(two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_leaves_nothing_behind() {
    let ca = Ca::create("test").expect("a CA");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mesh = Mesh::new(config(&ca, 1, vec![peer(2, &address)])).expect("a mesh");
    let _kept = soon("the keeper's hello", frozen(&ca, &listener)).await;
    let (ours, _theirs) =
        tokio::join!(mesh.connect(NodeId(2), Purpose::Rpc), frozen(&ca, &listener));
    let (caller, driver) = crate::mesh::calls::start(NodeId(2), ours.expect("a connection"));
    let driver = tokio::spawn(driver.run());
    let short = Duration::from_millis(20);
    let deadline = tokio::time::Instant::now() + short;
    let late = caller.call(ECHO, Bytes::new(), deadline, short).await;
    assert_eq!(late, Some(Err(CallError::Timeout { node: NodeId(2), waited: short })));
    assert_eq!(caller.waiting(), 0);
    driver.abort();
    assert!(driver.await.is_err());
    let after = caller.call(ECHO, Bytes::new(), deadline + SOON, SOON).await;
    assert_eq!(after, None, "it certainly did not go out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_the_first_connection() {
    let ca = Ca::create("test").expect("a CA");
    let two = Node::start(config(&ca, 2, vec![peer(1, "127.0.0.1:1")])).await;
    let mesh = Mesh::new(config(&ca, 1, vec![two.peer()])).expect("a mesh");
    assert_eq!(mesh.call(NodeId(2), ECHO, "1".into(), SOON).await.as_deref(), Ok(&b"1"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_moves_is_found_and_names_are_resolved() {
    let (one, two) = two().await;
    let id = NodeId(2);
    one.mesh.call(id, ECHO, Bytes::new(), SOON).await.expect("an answer");
    let port = two.address().rsplit_once(':').map(|(_, port)| port.to_owned()).expect("a port");
    let moved = Peer { address: format!("localhost:{port}"), ..two.peer() };
    one.mesh.set_peers(vec![moved]).expect("peers");
    one.mesh.call(id, ECHO, Bytes::new(), SOON).await.expect("an answer");
    let nowhere = Peer { address: "no-such-host.invalid:1".into(), ..two.peer() };
    one.mesh.set_peers(vec![nowhere]).expect("peers");
    let failed = one.mesh.connect(id, Purpose::Raft).await.expect_err("no such host");
    assert!(matches!(failed, MeshError::Resolve { .. }), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_clone_takes_its_connections_along() {
    let (one, two) = two().await;
    until("up", || two.mesh.peer_state(NodeId(1)) == Some(PeerEventKind::Up)).await;
    let Node { mesh, listening, .. } = one;
    drop(listening);
    until("refused", || two.mesh.peer_state(NodeId(1)) == Some(PeerEventKind::Refused)).await;
    let mut events = mesh.peer_events();
    let clone = mesh.clone();
    drop(mesh);
    clone.call(NodeId(2), ECHO, Bytes::new(), SOON).await.expect("the clone still works");
    drop(clone);
    let closed = async { while events.recv().await != Err(broadcast::error::RecvError::Closed) {} };
    soon("the keepers end", closed).await;
}
