//! What can be wrong with a trail's files, and what is right though it looks odd.

use jiff::SignedDuration;

use crate::recipe::{Made, REGION, Recipe, TRAIL, Twist, gunzip, gzip};

/// One case: chains, what is done to them, and how the judges are asked.
pub struct Case {
    pub name: &'static str,
    /// Who writes; the CLI is asked for the first.
    pub recipes: Vec<Recipe>,
    /// Does the harm; the keys that are harmed, or stand for the hours that are.
    pub harm: fn(&mut Made) -> Vec<String>,
    /// The CLI's start and end, unless they are the chain's.
    pub range: Option<(&'static str, &'static str)>,
    /// Options of our own program.
    pub ours: &'static [&'static str],
    /// Only the script can make it.
    pub python_only: bool,
}

impl Case {
    fn new(name: &'static str, recipes: Vec<Recipe>, harm: fn(&mut Made) -> Vec<String>) -> Self {
        Self { name, recipes, harm, range: None, ours: &[], python_only: false }
    }

    /// A trail as any other.
    fn plain(name: &'static str, harm: fn(&mut Made) -> Vec<String>) -> Self {
        Self::new(name, vec![Recipe::default()], harm)
    }

    fn twisted(name: &'static str, twist: Twist, harm: fn(&mut Made) -> Vec<String>) -> Self {
        Self::new(name, vec![Recipe { twist: Some(twist), ..Recipe::default() }], harm)
    }

    /// What the CLI is asked for.
    pub fn aws_range(&self) -> (String, String) {
        let Recipe { start, hours, .. } = self.recipes[0];
        let whole = (start.to_string(), (start + SignedDuration::from_hours(hours)).to_string());
        self.range.map_or(whole, |(from, to)| (from.to_owned(), to.to_owned()))
    }
}

fn none(_: &mut Made) -> Vec<String> {
    Vec::new()
}

/// Takes hourly digests away, by their hours.
fn without(made: &mut Made, hours: &[usize]) -> Vec<String> {
    let keys: Vec<_> = hours.iter().map(|hour| made.digest(*hour)).collect();
    keys.iter().for_each(|key| _ = made.take(key));
    keys
}

/// The same with the logs that they name.
fn without_hours(made: &mut Made, hours: &[usize]) -> Vec<String> {
    let logs: Vec<_> = hours.iter().flat_map(|hour| made.named(&made.digest(*hour))).collect();
    logs.iter().for_each(|key| _ = made.take(key));
    without(made, hours)
}

fn altered(made: &mut Made, key: String) -> Vec<String> {
    made.rewrite(&key, |text| {
        text.replacen("eventID\":\"", "eventID\":\"x", 1).replacen("eventID\": \"", "eventID\": \"x", 1)
    });
    vec![key]
}

fn with_body(made: &mut Made, key: String, change: fn(&[u8]) -> Vec<u8>) -> Vec<String> {
    let body = made.body(&key);
    *body = change(body);
    vec![key]
}

fn cut(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() - 8].to_vec()
}

pub fn all() -> Vec<Case> {
    [whole(), logs(), gone(), digests(), signed(), beyond()].into_iter().flatten().collect()
}

/// Nothing is wrong.
fn whole() -> Vec<Case> {
    let elsewhere = Recipe { region: "eu-west-1".into(), ..Recipe::default() };
    let other = Recipe { trail: "other".into(), ..Recipe::default() };
    // fakeaws changes its keys at the end of this day.
    let start = "2024-03-17T20:00:00Z".parse().expect("a time");
    let rotated = Recipe { start, twist: Some(Twist::Rotate { hour: 4 }), ..Recipe::default() };
    vec![
        Case::plain("whole: a chain of six hours", none),
        Case::twisted("whole: an hour in which nothing was logged", Twist::Quiet { hour: 3 }, none),
        Case::new("whole: keys rotate in the middle", vec![rotated], none),
        Case::new("whole: under a prefix", vec![Recipe { prefix: "audit/eu".into(), ..Recipe::default() }], none),
        Case::new("whole: a region that is not the trail's home", vec![elsewhere], none),
        Case::new("whole: two trails side by side", vec![Recipe::default(), other], none),
        Case::twisted("whole: logging was stopped and started again", Twist::Stop { hour: 3 }, none),
        Case::twisted("whole: a log came nine days late, with a backfill digest", Twist::Backfill { hour: 3 }, none),
        Case::plain("whole: a log was packed again", |made| {
            let key = made.log(3);
            let text = gunzip(made.body(&key));
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            std::io::Write::write_all(&mut packed, &text).expect("in memory");
            *made.body(&key) = packed.finish().expect("in memory");
            Vec::new()
        }),
        Case::twisted("whole: the keys are published as SubjectPublicKeyInfo", Twist::Spki, none),
    ]
}

/// Logs.
fn logs() -> Vec<Case> {
    vec![
        Case::plain("log: altered", |made| {
            let key = made.log(3);
            altered(made, key)
        }),
        Case::plain("log: removed", |made| {
            let key = made.log(3);
            made.take(&key);
            vec![key]
        }),
        Case::plain("log: another one stands in its place", |made| {
            let (key, other) = (made.log(3), made.log(4));
            *made.body(&key) = made.objects[&other].body.clone();
            vec![key]
        }),
        Case::plain("log: two altered and one removed, in three hours", |made| {
            let [one, two, three] = [1, 3, 6].map(|hour| made.log(hour));
            made.take(&three);
            [altered(made, one), altered(made, two), vec![three]].concat()
        }),
        Case::plain("log: not compressed", |made| {
            let key = made.log(3);
            with_body(made, key, gunzip)
        }),
        Case::plain("log: a byte behind it", |made| {
            let key = made.log(3);
            with_body(made, key, |body| [body, b"x"].concat())
        }),
        Case::plain("log: a second gzip member behind it", |made| {
            let key = made.log(3);
            with_body(made, key, |body| [body, &gzip(b"x")].concat())
        }),
        Case::plain("log: cut in the middle", |made| {
            let key = made.log(3);
            with_body(made, key, |body| body[..body.len() / 2].to_vec())
        }),
        Case::plain("log: the gzip trailer is cut off", |made| {
            let key = made.log(3);
            with_body(made, key, cut)
        }),
        Case::twisted("log: one that a backfill digest names was altered", Twist::Backfill { hour: 3 }, |made| {
            let backfill = made.digests().into_iter().find(|key| key.ends_with("_backfill.json.gz"));
            let key = made.named(&backfill.expect("a backfill digest")).remove(0);
            altered(made, key)
        }),
        Case::plain("log: planted, no digest names it", |made| {
            let key = made.log(3);
            let planted = key.replace(".json.gz", "planted.json.gz");
            let object = made.objects[&key].clone();
            made.objects.insert(planted.clone(), object);
            altered(made, planted)
        }),
    ]
}

/// Digests that are not there.
fn gone() -> Vec<Case> {
    let to = &["--to", "2024-03-05T05:00:00Z"];
    vec![
        Case::plain("digests gone: one in the middle", |made| without(made, &[3])),
        Case::plain("digests gone: every second one", |made| without(made, &[2, 4])),
        Case::plain("digests gone: two in a row", |made| without(made, &[3, 4])),
        Case::plain("digests gone: two in a row, and all their logs", |made| without_hours(made, &[3, 4])),
        Case::new("digests gone: a day of them", vec![Recipe { hours: 30, ..Recipe::default() }], |made| {
            without(made, &(4..28).collect::<Vec<_>>())
        }),
        Case::plain("digests gone: the first", |made| without(made, &[1])),
        Case::plain("digests gone: the first two", |made| without(made, &[1, 2])),
        Case::plain("digests gone: the newest", |made| without(made, &[6])),
        Case::plain("digests gone: the newest three", |made| without(made, &[4, 5, 6])),
        Case {
            ours: to,
            ..Case::plain("digests gone: the newest three, and all their logs", |made| {
                without_hours(made, &[4, 5, 6]).into_iter().take(2).collect()
            })
        },
        Case::plain("digests gone: all", |made| without(made, &[1, 2, 3, 4, 5, 6])),
    ]
}

/// Digests that are not what was signed.
fn digests() -> Vec<Case> {
    vec![
        Case::plain("digest: altered", |made| alter_digest(made, 3)),
        Case::plain("digest: the newest altered", |made| alter_digest(made, 6)),
        Case::plain("digest: no gzip", |made| {
            let key = made.digest(3);
            with_body(made, key, gunzip)
        }),
        Case::plain("digest: the gzip trailer is cut off", |made| {
            let key = made.digest(3);
            with_body(made, key, cut)
        }),
        Case::plain("digest: a byte behind it", |made| {
            let key = made.digest(3);
            with_body(made, key, |body| [body, b"x"].concat())
        }),
        Case::plain("digest: another one stands in its place", |made| {
            let (key, other) = (made.digest(3), made.digest(2));
            let object = made.objects[&other].clone();
            made.objects.insert(key.clone(), object);
            vec![key]
        }),
        Case::plain("digest: its metadata are lost", |made| {
            let key = made.digest(3);
            made.metadata(&key).clear();
            vec![key]
        }),
        Case::plain("digest: the newest one's metadata are lost", |made| {
            let key = made.digest(6);
            made.metadata(&key).clear();
            vec![key]
        }),
        Case::plain("digest: it carries another one's signature", |made| {
            let (key, other) = (made.digest(3), made.digest(4));
            *made.metadata(&key) = made.objects[&other].metadata.clone();
            vec![key]
        }),
        Case::plain("digest: the newest carries another one's signature", |made| {
            let (key, other) = (made.digest(6), made.digest(4));
            *made.metadata(&key) = made.objects[&other].metadata.clone();
            vec![key]
        }),
        Case::plain("digest: its metadata name another algorithm", |made| {
            let key = made.digest(3);
            made.metadata(&key).insert("signature-algorithm".into(), "SHA1withRSA".into());
            vec![key]
        }),
        Case::twisted("digest: a backfill digest without its time", Twist::Backfill { hour: 3 }, |made| {
            let key = made.digests().into_iter().find(|key| key.ends_with("_backfill.json.gz")).expect("one");
            made.metadata(&key).remove("backfill-generation-timestamp");
            vec![key]
        }),
    ]
}

fn alter_digest(made: &mut Made, hour: usize) -> Vec<String> {
    let (key, log) = (made.digest(hour), made.log(hour));
    made.rewrite(&key, |text| text.replace(&log, &format!("{log}.old")));
    vec![key]
}

/// Signed, and wrong nevertheless. What a link says counts against the digest that it names.
fn signed() -> Vec<Case> {
    let weak = Case::twisted("signed: with SHA-1", Twist::Weak { hour: 3 }, |made| vec![made.digest(3)]);
    vec![
        Case::twisted("signed: with a key that nobody publishes", Twist::Foreign { hour: 3 }, |made| {
            vec![made.digest(3)]
        }),
        Case { python_only: true, ..weak },
        Case::twisted("signed: the next names a wrong hash", Twist::WrongHash { hour: 4 }, |made| vec![made.digest(3)]),
        Case::twisted("signed: another one was put in its place", Twist::Replaced { hour: 3 }, |made| {
            vec![made.digest(3)]
        }),
        Case::twisted("signed: the chain begins anew in the middle", Twist::Begins { hour: 4 }, |made| {
            vec![made.digest(3)]
        }),
        Case::twisted("signed: a log's hash is of a bogus algorithm", Twist::BogusAlgorithm { hour: 3 }, |made| {
            vec![made.digest(3)]
        }),
    ]
}

/// What one look at one place does not show.
fn beyond() -> Vec<Case> {
    let elsewhere = Recipe { region: "eu-west-1".into(), ..Recipe::default() };
    let other = Recipe { trail: "other".into(), ..Recipe::default() };
    let longer = Recipe { trail: format!("{TRAIL}_{REGION}_b"), ..Recipe::default() };
    let organization = Recipe { organization: Some("o-a1b2c3d4e5".into()), ..Recipe::default() };
    vec![
        Case::plain("beyond: everything was copied to another bucket", |made| {
            made.bucket += "-copy";
            Vec::new()
        }),
        Case::new("beyond: a log of another region altered", vec![Recipe::default(), elsewhere], |made| {
            let digest = made.chain(TRAIL, "eu-west-1").remove(2);
            let key = made.named(&digest).remove(0);
            altered(made, key)
        }),
        Case::new("beyond: a digest of another trail removed", vec![Recipe::default(), other], |made| {
            let key = made.chain("other", REGION).remove(2);
            made.take(&key);
            vec![key]
        }),
        // The CLI takes the other trail's digests for those of the one that it was asked for, and walks along them.
        Case::new(
            "beyond: the trail's name begins another's, a log altered",
            vec![Recipe::default(), longer],
            |made| {
                let key = made.log(3);
                altered(made, key)
            },
        ),
        Case::new("beyond: an organization's trail, a log altered", vec![organization], |made| {
            let key = made.log(3);
            altered(made, key)
        }),
        // The CLI takes the digest of the hour after the range, too.
        Case {
            range: Some(("2024-03-05T00:00:00Z", "2024-03-05T03:00:00Z")),
            ours: &["--from", "2024-03-05T00:00:00Z", "--to", "2024-03-05T03:00:00Z"],
            python_only: true,
            ..Case::plain("beyond: a log altered in the hour after the range", |made| {
                let key = made.log(4);
                altered(made, key);
                Vec::new()
            })
        },
        // From 22:00 to 01:00 UTC; what is altered came after 04:00.
        Case {
            range: Some(("2024-03-05T00:00:00+02:00", "2024-03-05T06:00:00+05:00")),
            ours: &["--from", "2024-03-05T00:00:00+02:00", "--to", "2024-03-05T06:00:00+05:00"],
            ..Case::plain("beyond: times with an offset; a later log altered", |made| {
                let key = made.log(6);
                altered(made, key);
                Vec::new()
            })
        },
    ]
}
