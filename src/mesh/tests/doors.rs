//! no-open-door: who is not let in, from either side.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::{Raw, good};
use super::*;

fn ca() -> Ca {
    Ca::create("test").expect("a CA")
}

/// Node 2, alone, that knows a node 1.
async fn node_two(ca: &Ca) -> Node {
    Node::start(config(ca, 2, vec![peer(1, "127.0.0.1:1")])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_good_client_of_these_tests_is_let_in() {
    let ca = ca();
    let mut node = node_two(&ca).await;
    let (_stream, verdict) = good(&ca, Purpose::Raft).hello(&node.address()).await.expect("hello");
    assert_eq!(verdict, 0);
    let (from, _) = soon("the stream", node.raft.recv()).await.expect("a stream");
    assert_eq!(from, NodeId(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_this_ca_nobody_gets_past_the_handshake() {
    let ca = ca();
    let mut node = node_two(&ca).await;
    let foreign = Ca::create("test").expect("another CA of the same name");
    let cases = [
        ("no certificate", Raw { identity: None, ..good(&ca, Purpose::Raft) }),
        (
            "a foreign CA's",
            Raw { identity: foreign.issue("node1").ok(), ..good(&ca, Purpose::Raft) },
        ),
        ("no purpose", Raw { alpn: b"", ..good(&ca, Purpose::Raft) }),
        ("another protocol", Raw { alpn: b"h2", ..good(&ca, Purpose::Raft) }),
        ("TLS 1.2", Raw { version: &rustls::version::TLS12, ..good(&ca, Purpose::Raft) }),
    ];
    for (what, client) in cases {
        let outcome = soon(what, client.hello(&node.address())).await;
        assert!(outcome.is_err(), "{what} got an answer");
    }
    assert!(node.raft.try_recv().is_err(), "nothing reached a handler");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_this_ca_that_name_no_member_are_refused() {
    let ca = ca();
    let mut node = node_two(&ca).await;
    for (name, verdict) in [("node3", 1), ("node2", 1), ("node1", 0)] {
        let client = Raw { identity: ca.issue(name).ok(), ..good(&ca, Purpose::Raft) };
        let (_, got) = soon(name, client.hello(&node.address())).await.expect("an answer");
        assert_eq!(got, verdict, "{name}");
    }
    soon("only node 1", node.raft.recv()).await.expect("a stream");
    assert!(node.raft.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dialer_refuses_a_foreign_ca_and_a_wrong_name() {
    let ca = ca();
    let foreign = Ca::create("test").expect("another CA of the same name");
    let stranger = Node::start(config(&foreign, 2, vec![peer(1, "127.0.0.1:1")])).await;
    let third = Node::start(config(&ca, 3, vec![peer(1, "127.0.0.1:1")])).await;
    let one = Node::start(config(&ca, 1, Vec::new())).await;
    for at in [stranger.address(), third.address()] {
        one.mesh.set_peers(vec![peer(2, &at)]).expect("peers");
        let refused = one.mesh.connect(NodeId(2), Purpose::Raft).await.expect_err("not node 2");
        assert!(matches!(refused, MeshError::Handshake { .. }), "{refused}");
        assert!(!refused.is_refused());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dialer_is_told_why() {
    let ca = ca();
    let two = node_two(&ca).await;
    let rejection = |config: MeshConfig| async {
        let to = config.peers[0].id;
        let mesh = Mesh::new(config).expect("a mesh");
        match mesh.connect(to, Purpose::Bulk).await {
            Err(MeshError::Rejected { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let stranger = config(&ca, 3, vec![two.peer()]);
    assert_eq!(rejection(stranger).await, Rejection::UnknownMember);
    let mut other_id = config(&ca, 1, vec![two.peer()]);
    other_id.me.id = NodeId(7);
    assert_eq!(rejection(other_id).await, Rejection::UnknownMember);
    let wrong = config(&ca, 1, vec![Peer { id: NodeId(9), ..two.peer() }]);
    assert_eq!(rejection(wrong).await, Rejection::WrongNode);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_is_out_at_once() {
    let (one, mut two) = two().await;
    let mut stream = one.mesh.connect(NodeId(2), Purpose::Raft).await.expect("a member");
    let kept = soon("the stream", two.raft.recv()).await.expect("a stream");
    one.mesh.call(NodeId(2), ECHO, Bytes::new(), SOON).await.expect("a member");

    drop(kept);
    two.mesh.set_peers(Vec::new()).expect("peers");
    let ended = soon("the end", stream.receiver.recv()).await;
    assert!(!matches!(ended, Ok(Some(_))));
    let refused = one.mesh.connect(NodeId(2), Purpose::Raft).await.expect_err("removed");
    assert!(
        matches!(refused, MeshError::Rejected { reason: Rejection::UnknownMember, .. }),
        "{refused}"
    );
    until("calls end too", || one.mesh.peer_state(NodeId(2)) == Some(PeerEventKind::Broken)).await;
    let short = Duration::from_millis(20);
    let refused = one.mesh.call(NodeId(2), ECHO, Bytes::new(), short).await.expect_err("removed");
    assert!(matches!(refused, CallError::NotConnected { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_tls_is_cut_off() {
    let node = node_two(&ca()).await;
    let mut stream = TcpStream::connect(node.address()).await.expect("a port");
    stream.write_all(b"GET /primary HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    // An alert, perhaps; then the end.
    let _ = soon("the end", stream.read_to_end(&mut answer)).await;
    assert!(answer.len() < 20, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_clients_are_cut_off_and_keep_nobody_out() {
    let ca = ca();
    let node = node_two(&ca).await;
    let mut silent = TcpStream::connect(node.address()).await.expect("a port");
    let mut no_hello = good(&ca, Purpose::Raft).connect(&node.address()).await.expect("TLS");
    let (_, verdict) = good(&ca, Purpose::Rpc).hello(&node.address()).await.expect("meanwhile");
    assert_eq!(verdict, 0);
    let mut rest = Vec::new();
    let _ = soon("the end of the silent one", silent.read_to_end(&mut rest)).await;
    let _ = soon("the end of the one without hello", no_hello.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_is_given_up() {
    let ca = ca();
    // Accepts in the kernel alone, as a frozen process does.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = frozen.local_addr().expect("an address").to_string();
    let mesh = Mesh::new(config(&ca, 1, vec![peer(2, &address)])).expect("a mesh");
    let given_up = soon("giving up", mesh.connect(NodeId(2), Purpose::Rpc)).await;
    let given_up = given_up.expect_err("frozen");
    assert!(matches!(given_up, MeshError::Handshake { .. }), "{given_up}");
    until("the keeper", || mesh.peer_state(NodeId(2)) == Some(PeerEventKind::Broken)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_identity_is_found_before_anything_starts() {
    let ca = ca();
    let refused = |change: &dyn Fn(&mut MeshConfig)| {
        let mut config = config(&ca, 1, Vec::new());
        change(&mut config);
        Mesh::new(config).expect_err("refused").to_string()
    };
    let foreign = Ca::create("test").expect("another CA");
    let other = foreign.issue("node1").expect("an identity");
    let message = refused(&|c| c.identity = other.clone());
    assert!(message.contains("not of this cluster's CA"), "{message}");
    let message = refused(&|c| c.identity.key_pem.clone_from(&other.key_pem));
    assert!(message.contains("certificate and key"), "{message}");
    let message = refused(&|c| c.identity = ca.issue("node2").expect("an identity"));
    assert!(message.contains("it is for node2.test.litefs.internal"), "{message}");
    let message = refused(&|c| c.cluster = "other".into());
    assert!(message.contains("this node is node1.other.litefs.internal"), "{message}");
    let message = refused(&|c| c.ca_pem = "rubbish".into());
    assert!(message.contains("no certificate"), "{message}");
    let message =
        refused(&|c| c.peers = vec![peer(2, "h:1"), Peer { id: NodeId(3), ..peer(2, "h:2") }]);
    assert!(message.contains("two members"), "{message}");
    let message = refused(&|c| c.peers = vec![Peer { name: "a b".into(), ..peer(2, "h:1") }]);
    assert!(message.contains("\"a b\" cannot name a node"), "{message}");
}

#[test]
fn a_runtime_is_needed() {
    assert!(matches!(Mesh::new(config(&ca(), 1, Vec::new())), Err(MeshError::NoRuntime)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_says_so() {
    let ca = ca();
    let node = node_two(&ca).await;
    let mut config = config(&ca, 1, Vec::new());
    config.me.address = node.address();
    let mesh = Mesh::new(config).expect("a mesh");
    let handlers = Handlers {
        rpc: Arc::new(TestRpc { gate: Arc::new(Semaphore::new(0)), held: Arc::default() }),
        raft: Arc::new(NoStreams),
        bulk: Arc::new(NoStreams),
        litefs: Arc::new(NoStreams),
        joins: Arc::new(NoJoins),
    };
    let refused = mesh.listen(handlers).await.expect_err("in use");
    assert!(matches!(&refused, MeshError::PortInUse { address } if *address == node.address()));
}
