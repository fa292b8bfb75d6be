use super::super::findings::{Findings, Place};
use super::super::located_json::Located;
use super::*;

/// Returns what a config breaks, with the pointers: errors, and warnings after a `W`.
fn broken(minor: Minor, rest: &str) -> Vec<String> {
    let text = format!(r#"{{"ignition":{{"version":"3.{minor}.0"}},{rest}}}"#).replace(",}", "}");
    let (config, mut found) =
        (Located::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}")), Findings::default());
    check(&Place::of(&config), minor, &mut found);
    let errors = found.errors.iter().map(|one| format!("{}: {}", one.pointer, one.message));
    errors.chain(found.warnings.iter().map(|one| format!("W {}: {}", one.pointer, one.message))).collect()
}

/// Checks that each row breaks exactly the rules whose findings start so.
fn check_rows(rows: &[(Minor, &str, &[&str])]) {
    for (minor, rest, expected) in rows {
        let found = broken(*minor, rest);
        let is_same =
            found.len() == expected.len() && found.iter().zip(*expected).all(|(one, start)| one.starts_with(start));
        assert!(is_same, "3.{minor} {rest}:\n found {found:#?}\n expected {expected:#?}");
    }
}

#[test]
fn paths_modes_and_owners() {
    let file = |rest: &str| format!(r#""storage":{{"files":[{{"path":"/a",{rest}}}]}}"#);
    let long = file(r#""overwrite":true,"contents":{}"#);
    check_rows(&[
        (4, r#""storage":{"files":[{"path":"/etc/x","mode":420}]}"#, &[]),
        (4, r#""storage":{"files":[{"path":"etc"}]}"#, &["/storage/files/0/path: is relative"]),
        (4, r#""storage":{"directories":[{"path":"/a/"}]}"#, &["/storage/directories/0/path: has a part"]),
        (4, r#""storage":{"links":[{"path":"/a//b","target":"x"}]}"#, &["/storage/links/0/path: has a part"]),
        (4, &file(r#""mode":4096"#), &["/storage/files/0/mode: found 4096"]),
        (4, &file(r#""mode":-1"#), &["/storage/files/0/mode: found -1"]),
        (4, &file(r#""mode":3565"#), &[]),
        (3, &file(r#""mode":3565"#), &["W /storage/files/0/mode: set-user-ID"]),
        (4, &file(r#""user":{"id":1,"name":"a"}"#), &["/storage/files/0/user: both id and name"]),
        (4, &long, &["/storage/files/0/overwrite: true without"]),
    ]);
}

#[test]
fn links_and_units_in_the_way() {
    check_rows(&[
        (
            4,
            r#""storage":{"links":[{"path":"/a","target":"/b"}],"files":[{"path":"/a/x"},{"path":"/ab"}]}"#,
            &["/storage/files/0: /a/x is below /a"],
        ),
        (4, r#""storage":{"links":[{"path":"/a"}]}"#, &["/storage/links/0/target: missing"]),
        (
            4,
            r#""storage":{"links":[{"path":"/a","target":"/d/../e","hard":true}],"directories":[{"path":"/e"}]}"#,
            &["/storage/links/0: a hard link to /e"],
        ),
        (
            4,
            r#""storage":{"files":[{"path":"/etc/systemd/system/a.service"}]},"systemd":{"units":[{"name":"a.service","contents":"[Unit]\n"}]}"#,
            &["/storage/files/0/path: a unit or drop-in"],
        ),
        (
            4,
            r#""storage":{"files":[{"path":"/a"}],"links":[{"path":"/a","target":"b"}]}"#,
            &["/storage/links/0/path: \"/a\" occurs twice"],
        ),
    ]);
}

#[test]
fn sources() {
    let rows = [
        ("http://x/y", 0, ""),
        ("data:,x%20y", 0, ""),
        ("data:text/plain;charset=utf-8;base64,YQ==", 0, ""),
        ("data:;base64,YQ==", 0, ""),
        ("s3://bucket/key?versionId=", 4, "an empty versionId"),
        ("gs://b/k", 1, "found the scheme gs"),
        ("gs://b/k", 2, ""),
        ("arn:aws:s3:::bucket/key", 3, "found the scheme arn"),
        ("arn:aws:s3:::bucket/key", 4, ""),
        ("arn:aws:s3:::bucket", 4, "expected the ARN"),
        ("arn:aws:s3:us-west-2:1:accesspoint/x", 4, "expected the ARN"),
        ("arn:aws:s3:us-west-2:1:accesspoint/x/o/k", 4, ""),
        ("ftp://x", 4, "found the scheme ftp"),
        ("/x", 4, "no URL scheme"),
        ("http://x:y/", 4, "invalid URL: the port"),
        ("http://x/%zz", 4, "invalid URL: %"),
        ("a b:c", 4, "invalid URL: a colon"),
        ("data:x", 4, "invalid data URL: missing comma"),
        ("data:;base64,Y", 4, "invalid data URL: the data is not base64"),
        ("data:,a b", 4, "invalid data URL: ' ' must be written as %20"),
        ("data:foo/bar,x", 4, "invalid data URL: unknown media type"),
        ("data:text,x", 4, "invalid data URL: the media type has no slash"),
    ];
    for (url, minor, expected) in rows {
        let fault = resources::url_fault(url, minor).unwrap_or_default();
        assert!(fault.starts_with(expected) && fault.is_empty() == expected.is_empty(), "{url} in 3.{minor}: {fault}");
    }
}

#[test]
fn resources_and_proxies() {
    let contents = |rest: &str| format!(r#""storage":{{"files":[{{"path":"/a","contents":{{{rest}}}}}]}}"#);
    let sum = "0".repeat(64);
    let good =
        contents(&format!(r#""source":"http://x","verification":{{"hash":"sha256-{sum}"}},"compression":"gzip""#));
    let at = "/storage/files/0/contents";
    let hash = contents(r#""source":"http://x","verification":{"hash":"sha512-00"}"#);
    let other = contents(r#""source":"http://x","verification":{"hash":"md5-00"}"#);
    let headers = contents(r#""source":"tftp://x/y","httpHeaders":[{"name":"A","value":"1"},{"name":"A"}]"#);
    let none = contents(r#""verification":{"hash":"sha512-00"},"compression":"xz""#);
    check_rows(&[
        (4, &good, &[]),
        (0, &good, &[&format!("{at}/verification/hash: found \"sha256")]),
        (4, &hash, &[&format!("{at}/verification/hash: found 2 digits, expected 128")]),
        (4, &other, &[&format!("{at}/verification/hash: found \"md5-00\"")]),
        (
            4,
            &headers,
            &[&format!("{at}/httpHeaders: headers need"), &format!("{at}/httpHeaders/1/name: \"A\" occurs twice")],
        ),
        (4, &none, &[&format!("{at}/compression: found \"xz\""), &format!("{at}/verification/hash: a digest without")]),
    ]);
    let with = |rest: &str| {
        let text = format!(r#"{{"ignition":{{"version":"3.4.0",{rest}}}}}"#);
        let (config, mut found) = (Located::parse(&text).unwrap(), Findings::default());
        check(&Place::of(&config), 4, &mut found);
        (found.errors.len(), found.warnings.len())
    };
    assert_eq!(with(r#""config":{"merge":[{},{"source":"http://x"},{"source":"http://x"}]}"#), (2, 0));
    assert_eq!(with(r#""proxy":{"httpProxy":"http://p","httpsProxy":"http://p"}"#), (0, 1));
    assert_eq!(with(r#""proxy":{"httpProxy":"socks5://p"}"#), (1, 0));
}

#[test]
fn partitions() {
    let disk =
        |partitions: &str| format!(r#""storage":{{"disks":[{{"device":"/dev/sda","partitions":[{partitions}]}}]}}"#);
    let at = "/storage/disks/0/partitions";
    check_rows(&[
        (4, &disk(r#"{"number":1,"startMiB":1,"sizeMiB":10},{"number":2,"startMiB":11,"sizeMiB":0}"#), &[]),
        (
            4,
            &disk(r#"{"number":1,"startMiB":1,"sizeMiB":10},{"number":2,"startMiB":10,"sizeMiB":5}"#),
            &[&format!("{at}/1: overlaps")],
        ),
        (4, &disk(r#"{"number":1},{"number":1}"#), &[&format!("{at}/1: partition 1 twice")]),
        (4, &disk(r#"{"label":"a"},{"label":"a"}"#), &[&format!("{at}/1: the label \"a\" twice")]),
        (4, &disk("{}"), &[&format!("{at}/0: neither number nor label")]),
        (4, &disk(r#"{"number":1,"label":"a:b"}"#), &[&format!("{at}/0/label: a colon")]),
        (4, &disk(r#"{"number":1,"guid":"x","typeGuid":""}"#), &[&format!("{at}/0/guid: expected 8, 4")]),
        (4, &disk(r#"{"number":1,"shouldExist":false,"sizeMiB":5}"#), &[&format!("{at}/0: shouldExist is false")]),
        (
            4,
            &disk(r#"{"number":1,"shouldExist":false},{"label":"a"}"#),
            &[&format!("{at}: a partition with shouldExist")],
        ),
        (
            4,
            r#""storage":{"disks":[{"device":"/dev/sda"},{"device":"/dev/sda"},{"device":"sdb"}]}"#,
            &["/storage/disks/2/device: is relative", "/storage/disks/1/device: \"/dev/sda\" occurs twice"],
        ),
    ]);
}

#[test]
fn arrays_volumes_and_file_systems() {
    let storage = |rest: &str| format!(r#""storage":{{{rest}}}"#);
    check_rows(&[
        (4, &storage(r#""raid":[{"name":"a","level":"raid1","devices":["/dev/a","/dev/b"]}]"#), &[]),
        (
            4,
            &storage(r#""raid":[{"name":"a","level":"raid7","devices":["/dev/a"]}]"#),
            &["/storage/raid/0/level: found \"raid7\""],
        ),
        (
            4,
            &storage(r#""raid":[{"name":"a","level":"raid0","spares":1,"devices":["/dev/a","/dev/a"]}]"#),
            &["/storage/raid/0/level: linear and raid0", "/storage/raid/0/devices/1: \"/dev/a\" occurs twice"],
        ),
        (4, &storage(r#""raid":[{"name":"a"}]"#), &["/storage/raid/0/level: missing", "/storage/raid/0/devices: none"]),
        (4, &storage(r#""luks":[{"name":"a/b","device":"/dev/a"}]"#), &["/storage/luks/0/name: a slash"]),
        (4, &storage(r#""luks":[{"name":"a"}]"#), &["/storage/luks/0/device: is empty"]),
        (
            4,
            &storage(r#""luks":[{"name":"a","device":"/dev/a","clevis":{"tpm2":true,"custom":{"pin":"tang"}}}]"#),
            &["/storage/luks/0/clevis: custom next to", "/storage/luks/0/clevis/custom/config: missing"],
        ),
        (
            4,
            &storage(r#""luks":[{"name":"a","device":"/dev/a","clevis":{"tang":[{"url":"x"}]}}]"#),
            &["/storage/luks/0/clevis/tang/0/url: expected", "/storage/luks/0/clevis/tang/0/thumbprint: missing"],
        ),
        (
            5,
            &storage(r#""luks":[{"name":"a","device":"/dev/a","cex":{"enabled":true},"clevis":{"tpm2":true}}]"#),
            &["/storage/luks/0/clevis: cex has the key"],
        ),
        (
            4,
            &storage(r#""filesystems":[{"device":"/dev/a","format":"xfs","label":"0123456789abc"}]"#),
            &["/storage/filesystems/0/label: 13 octets"],
        ),
        (
            4,
            &storage(r#""filesystems":[{"device":"/dev/a","path":"/x"}]"#),
            &["/storage/filesystems/0/format: missing"],
        ),
        (
            4,
            &storage(r#""filesystems":[{"device":"/dev/a","format":"ntfs"}]"#),
            &["/storage/filesystems/0/format: found \"ntfs\""],
        ),
        (
            2,
            &storage(r#""filesystems":[{"device":"/dev/a","format":"none"}]"#),
            &["/storage/filesystems/0/format: found \"none\""],
        ),
        (
            4,
            &storage(r#""filesystems":[{"device":"/dev/a","format":"none"},{"device":"/dev/a"}]"#),
            &["/storage/filesystems/1/device: "],
        ),
    ]);
}

#[test]
fn units() {
    let unit = |rest: &str| format!(r#""systemd":{{"units":[{{{rest}}}]}}"#);
    check_rows(&[
        (4, &unit(r#""name":"a.service","enabled":true,"contents":"[Install]\nWantedBy=x\n""#), &[]),
        (
            4,
            &unit(r#""name":"a.service","enabled":true,"contents":"[Unit]\nA=b\\\n c\n""#),
            &["W /systemd/units/0/contents: a.service is enabled"],
        ),
        (4, &unit(r#""name":"a.nothing""#), &["/systemd/units/0/name: found \"a.nothing\""]),
        (
            4,
            &unit(r#""name":"a.service","contents":"[Unit\n""#),
            &["/systemd/units/0/contents: line 1 of the unit: a section without"],
        ),
        (
            4,
            &unit(r#""name":"a.service","contents":"[Unit]\nx\n""#),
            &["/systemd/units/0/contents: line 2 of the unit: found \"x\""],
        ),
        (
            4,
            &unit(r#""name":"a.service","contents":"[Unit] x\n""#),
            &["/systemd/units/0/contents: line 1 of the unit: found \"x\" after"],
        ),
        (4, &unit(r#""name":"a.service","dropins":[{"name":"x"}]"#), &["/systemd/units/0/dropins/0/name: found \"x\""]),
        (
            4,
            r#""passwd":{"users":[{"name":"a","groups":["b","b"]},{"name":"a"}]}"#,
            &["/passwd/users/1/name: \"a\" occurs twice", "/passwd/users/0/groups/1: \"b\" occurs twice"],
        ),
        (
            4,
            r#""kernelArguments":{"shouldExist":["a"],"shouldNotExist":["a"]}"#,
            &["/kernelArguments/shouldNotExist/0: \"a\" occurs twice"],
        ),
    ]);
}
