//! Keys that another account may choose to hurt us: at least 200, each with its reason.

/// The corpus. All keys differ, and all are keys that S3 accepts (1 to 1,024 bytes of UTF-8).
pub fn hostile_keys() -> Vec<String> {
    let mut keys = Vec::new();
    keys.extend(escapes());
    keys.extend(clashes());
    keys.extend(lookalikes());
    keys.extend(long());
    keys.extend(single_characters());
    keys.extend(log_injection());
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Ways out of the root, into our own files, or onto a device.
fn escapes() -> Vec<String> {
    [
        "..",
        ".",
        "../",
        "./",
        "../x",
        "../../x.gz",
        "a/../../x.gz",
        "a/./b.gz",
        "a/../b.gz",
        "a/..",
        "a/.",
        "...",
        "....",
        "/etc/passwd",
        "//etc/passwd",
        "/",
        "//",
        "///",
        "\\..\\..\\x",
        "C:\\x.gz",
        "\\\\host\\share\\x",
        "..\\x.gz",
        "..%2fx.gz",
        "%2e%2e/x.gz",
        "%2E%2E/x.gz",
        "..%00/x.gz",
        "..;/x.gz",
        "a/..\u{0}/x.gz",
        "\u{0}",
        "x\u{0}.gz",
        "~",
        "~/x.gz",
        "~root/x.gz",
        "$HOME/x.gz",
        "`id`",
        "$(id).gz",
        "-rf",
        "--help",
        "a;rm -rf x",
        "a|b",
        "a&b",
        "a\nb.gz",
        ".trailsync",
        ".trailsync/lock",
        ".trailsync/stage/x",
        "a/.trailsync/x.gz",
        ".git/config",
        ".ssh/authorized_keys",
        ".hidden.gz",
        "a/.hidden/b.gz",
        "dev/null",
        "/dev/null",
        "/dev/stdin",
        "/proc/self/mem",
        "proc/self/fd/0",
        "CON",
        "NUL.gz",
        "aux.txt",
        "a:b.gz",
        "a::$DATA",
        "file:///etc/passwd",
        "s3://bucket/key.gz",
        "lost+found/x.gz",
    ]
    .map(str::to_owned)
    .into()
}

/// Pairs that would be one file, or a file and a directory, for a careless codec.
fn clashes() -> Vec<String> {
    [
        "a",
        "a/",
        "a//",
        "a/b",
        "a/b/",
        "a//b",
        "/a",
        "//a",
        "a/b/c",
        "A",
        "A/b",
        "a.gz",
        "a.gz/",
        "a.gz/b",
        "a.gz/b.gz",
        "a.gz//",
        "b.json",
        "b.json/c",
        "b.json/c.json",
        "b.json/c.json/d",
        "a%_file",
        "a%_dir",
        "a%_dir/b",
        "a.gz%_dir/b",
        "a.gz%_file",
        "%_empty",
        "%_empty/x",
        "a/%_empty/b",
        "a/%_empty",
        "a%_more",
        "a%_more/b",
        "a%_more/b.gz",
        "a%",
        "a%/",
        "a%25",
        "a%2525",
        "a%41",
        "aA",
        "a%2f",
        "a%2F",
        "a%2Fb",
        "a%5C",
        "a\\",
        "a%5c",
        "a+b",
        "a b",
        "a%20b",
        "a%2Bb",
        "é",
        "e\u{301}",
        "%C3%A9",
        "É",
        "a.gz%_meta.json",
        "a.gz%_v0123456789abcdef",
        "a.gz%_m0123456789abcdef.json",
        "a.gz_meta.json",
        "a%_meta.json/b",
        "%00e",
        "\u{0}e",
        "a.",
        "a ",
        " a",
        " ",
        "  ",
        "a. ",
        "a./b",
        "a /b",
        "a\t",
        "\t",
        "a.GZ",
        "a.Gz/b",
        ".gz",
        ".gz/b",
        ".json",
        "x/.json",
        ".gz/.gz",
    ]
    .map(str::to_owned)
    .into()
}

/// Names that look like others, or like nothing.
fn lookalikes() -> Vec<String> {
    [
        "\u{202e}zg.nosj",
        "a\u{200b}b.gz",
        "a\u{200d}b.gz",
        "\u{feff}a.gz",
        "a\u{a0}b.gz",
        "\u{2024}\u{2024}/x.gz",
        "\u{ff0e}\u{ff0e}/x.gz",
        "a\u{2215}b.gz",
        "a\u{2044}b.gz",
        "a\u{ff0f}b.gz",
        "a\u{ff3c}b.gz",
        "а.gz",
        "ａ.gz",
        "ﬁ.gz",
        "ß.gz",
        "ẞ.gz",
        "İ.gz",
        "ı.gz",
        "K.gz",
        "\u{3164}.gz",
        "\u{115f}.gz",
        "\u{e000}.gz",
        "\u{fffd}.gz",
        "\u{fffe}.gz",
        "\u{ffff}.gz",
        "\u{10ffff}.gz",
        "😀.gz",
        "👨\u{200d}👩\u{200d}👧.gz",
        "日本語/ログ.json.gz",
        "مرحبا/x.gz",
        "\u{2066}a\u{2069}.gz",
        "ａ/b",
        "１.gz",
        "½.gz",
        "٣.gz",
        "\u{301}",
        "a\u{301}\u{301}\u{301}.gz",
        "\u{1f1e9}\u{1f1ea}.gz",
        "\u{85}",
        "\u{2028}.gz",
        "\u{2029}.gz",
        "\u{7f}.gz",
        "\u{ad}.gz",
    ]
    .map(str::to_owned)
    .into()
}

/// Components and paths at the limits of names, of paths and of depth.
fn long() -> Vec<String> {
    let mut keys = Vec::new();
    for bytes in [219, 220, 224, 225, 226, 229, 230, 231, 232, 254, 255, 256, 450, 451, 1018] {
        keys.push("n".repeat(bytes));
        keys.push(format!("{}.gz", "n".repeat(bytes)));
        keys.push(format!("{}/x.gz", "d".repeat(bytes)));
    }
    for bytes in [224, 225, 226, 231, 255] {
        keys.push(format!("{}.gz/x", "d".repeat(bytes)));
        keys.push(format!("{}%_more/x.gz", "d".repeat(bytes)));
        keys.push(format!("{}\u{202e}.gz", "n".repeat(bytes)));
        keys.push(format!("{}..gz", ".".repeat(bytes)));
        keys.push(format!("{}é.gz", "n".repeat(bytes)));
    }
    keys.push("/".repeat(1024));
    keys.push("a/".repeat(512));
    keys.push("../".repeat(341));
    keys.push("%".repeat(1024));
    keys.push(".".repeat(1024));
    keys.push("é".repeat(512));
    keys.push("\u{10ffff}".repeat(256));
    keys.push(format!("{}x.gz", "\u{1}/".repeat(510)));
    keys
}

/// Every ASCII character in the place where it hurts most: alone, first and last.
fn single_characters() -> Vec<String> {
    (0..=0x7f_u8)
        .map(char::from)
        .filter(|c| !c.is_ascii_alphanumeric() && *c != '/')
        .flat_map(|c| [c.to_string(), format!("{c}x{c}/{c}y.gz"), format!("x{c}")])
        .collect()
}

/// Keys that would forge log lines, move the cursor or break a document.
fn log_injection() -> Vec<String> {
    [
        "a\r\nERROR forged.gz",
        "\u{1b}[2J.gz",
        "\u{1b}]0;title\u{7}.gz",
        "\u{9b}31m.gz",
        "a\u{8}\u{8}b.gz",
        "\"},{\"key\":\"x",
        "</Key><Key>x",
        "&lt;x&gt;",
        "<![CDATA[x]]>",
        "]]>",
        "'; DROP TABLE objects;--",
        "{{7*7}}",
        "${jndi:ldap://x}",
        "%n%s%x",
        "=cmd()",
        "@x",
        "\u{1}",
        "a,b\"c.csv",
        "a\u{2028}b",
        "{}",
        "{0}",
        "?x=y",
        "#x",
        "a?b.gz",
        "a#b.gz",
        "*",
        "a*b",
        "[a]",
        "!a",
        "a'b\"c`d",
    ]
    .map(str::to_owned)
    .into()
}
