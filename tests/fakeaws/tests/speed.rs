//! How fast the server is, so that nobody measures it instead of the program under test.
//!
//! Run with `--ignored --nocapture` on a quiet machine.

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use fakeaws::scenario::{MILLION_BUCKET, Million};
use fakeaws::{BucketSpec, FakeClock, ObjectSpec, World, policies};
use support::{Call, OWNER, serve};

/// Sends the same bytes over and over on kept-alive connections; requests per second.
fn rate(address: std::net::SocketAddr, request: &[u8], each: usize) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(address).expect("a connection");
                stream.set_nodelay(true).expect("an option");
                for _ in 0..each {
                    stream.write_all(request).expect("to be heard");
                    read_one(&mut stream);
                }
            });
        }
    });
    (4 * each) as f64 / began.elapsed().as_secs_f64()
}

fn read_one(stream: &mut TcpStream) {
    let mut received = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let read = stream.read(&mut buffer).expect("an answer");
        assert!(read > 0, "closed");
        received.extend_from_slice(&buffer[..read]);
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&received[..end]);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if received.len() >= end + 4 + length.unwrap_or(0) {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn small_objects_are_served_by_the_thousand() {
    let world = World::new(FakeClock::system());
    world.add_bucket(BucketSpec::new("logs", OWNER, "us-east-1"));
    world.put_object("logs", "k", ObjectSpec::generated(1, 4_096));
    let key = world.add_user(OWNER, "admin", policies::everything());
    let aws = serve(&world).await;
    let request = Call::new(&aws, &key, "GET", "/logs/k")
        .header("x-amz-checksum-mode", "ENABLED")
        .bytes("keep-alive");
    println!("GET 4 KiB: {:.0}/s", rate(aws.address(), &request, 2_000));
    let request = Call::new(&aws, &key, "GET", "/logs?list-type=2").bytes("keep-alive");
    println!("LIST of one: {:.0}/s", rate(aws.address(), &request, 2_000));
}

#[tokio::test]
#[ignore = "a measurement"]
async fn a_million_keys_are_listed_in_pages() {
    let began = Instant::now();
    let (world, _) = Million::default().build(FakeClock::system());
    println!("planted in {:.1} s", began.elapsed().as_secs_f64());
    let key = world.add_user(OWNER, "admin", policies::everything());
    let aws = serve(&world).await;
    let began = Instant::now();
    let (mut keys, mut pages, mut token) = (0, 0, None::<String>);
    loop {
        let mut call = Call::new(
            &aws,
            &key,
            "GET",
            &format!("/{MILLION_BUCKET}?list-type=2&encoding-type=url"),
        );
        if let Some(token) = &token {
            call = call.query("continuation-token", token);
        }
        let answer = call.send();
        keys += answer.text().matches("<Key>").count();
        pages += 1;
        token = answer.element("NextContinuationToken");
        if token.is_none() {
            break;
        }
    }
    assert_eq!(keys, 1_000_000);
    println!("{pages} pages in {:.1} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let days = Call::new(&aws, &key, "GET", &format!("/{MILLION_BUCKET}?list-type=2"))
        .query("prefix", "AWSLogs/222222222222/CloudTrail/us-east-1/")
        .query("delimiter", "/")
        .send();
    assert_eq!(days.status, 200);
    println!(
        "a delimiter listing over a million keys in {:.1} ms",
        began.elapsed().as_secs_f64() * 1_000.0
    );
}
