use std::collections::BTreeMap;

use super::*;

/// Local files of a test.
#[derive(Default)]
struct Files(BTreeMap<&'static str, &'static str>);

impl LocalFiles for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.get(path).map(|text| text.as_bytes().to_vec()).ok_or_else(|| "no such file".to_owned())
    }

    fn tree(&self, path: &str) -> Result<Vec<TreeEntry>, String> {
        let below = self.0.iter().filter_map(|(name, text)| Some((name.strip_prefix(path)?.strip_prefix('/')?, text)));
        let entry = |(name, text): (&str, &&str)| TreeEntry {
            path: name.to_owned(),
            node: match text.strip_prefix("-> ") {
                Some(target) => TreeNode::Link { target: target.to_owned() },
                None => TreeNode::File { content: text.as_bytes().to_vec(), is_executable: text.starts_with("#!") },
            },
        };
        Ok(below.map(entry).collect())
    }
}

/// Compiles a config; its head is added.
fn compiled(head: &str, rest: &str) -> Result<Compiled, Vec<String>> {
    let (variant, version) = head.split_once(' ').unwrap();
    let files = Files(
        [
            ("local-file", "from a file"),
            ("keys", "one\r\ntwo\n"),
            ("unit", "[Service]\nExecStart=/bin/true\n"),
            ("tree/file", "plain"),
            ("tree/overridden", "owned"),
            ("tree/bin/run", "#!/bin/sh\n"),
            ("tree/bin/link", "-> ../file"),
        ]
        .into(),
    );
    compile(&format!("variant: {variant}\nversion: {version}\n{rest}"), Some(&files))
}

/// Checks that a config becomes an Ignition config without warnings.
fn check(head: &str, rest: &str, expected: Value) {
    let compiled = compiled(head, rest).unwrap_or_else(|errors| panic!("{rest}: {errors:#?}"));
    assert_eq!(compiled.config, expected, "{rest}:\n{:#}", compiled.config);
    assert!(compiled.warnings.is_empty(), "{rest}: {:?}", compiled.warnings);
}

#[test]
fn a_version_of_a_variant_has_its_ignition_version() {
    for (head, version) in [
        ("fcos 1.0.0", "3.0.0"),
        ("fcos 1.1.0", "3.1.0"),
        ("fcos 1.2.0", "3.2.0"),
        ("fcos 1.3.0", "3.2.0"),
        ("fcos 1.4.0", "3.3.0"),
        ("fcos 1.5.0", "3.4.0"),
        ("fcos 1.6.0", "3.5.0"),
        ("flatcar 1.0.0", "3.3.0"),
        ("flatcar 1.1.0", "3.4.0"),
        ("r4e 1.1.0", "3.4.0"),
        ("openshift 4.13.0", "3.2.0"),
        ("openshift 4.14.0", "3.4.0"),
    ] {
        check(head, "", json!({"ignition": {"version": version}}));
    }
    for head in ["fcos 1.9.0", "fcos 1.5", "fcos 1.5.1", "coreos 1.0.0", "openshift 4.7.0", "fcos x"] {
        let errors = compiled(head, "").unwrap_err();
        assert!(errors[0].contains("expected fcos 1.0.0 to"), "{head}: {errors:?}");
    }
}

#[test]
fn users_and_files() {
    let user = "
passwd:
  users:
    - {name: user1, ssh_authorized_keys: [key1], ssh_authorized_keys_local: [keys], home_dir: /home/user1, no_create_home: true, groups: [wheel, plugdev]}
";
    check(
        "fcos 1.5.0",
        user,
        json!({"ignition": {"version": "3.4.0"}, "passwd": {"users": [{
        "groups": ["wheel", "plugdev"], "homeDir": "/home/user1", "name": "user1", "noCreateHome": true,
        "sshAuthorizedKeys": ["key1", "one", "two"]}]}}),
    );
    let files = "
storage:
  files:
    - {path: /opt/file, contents: {inline: 'Hello, world!'}, mode: 0644, user: {id: 500}, group: {id: 501}}
    - {path: /opt/file3, contents: {local: local-file}, append: [{inline: 'é'}]}
    - path: /opt/zeros
      contents: {inline: '0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000'}
";
    let packed = compiled("fcos 1.1.0", files).unwrap().config["storage"]["files"][2]["contents"].clone();
    assert!(
        packed["compression"] == "gzip" && packed["source"].as_str().unwrap().starts_with("data:;base64,H4sI"),
        "{packed}"
    );
    let files = files.split("    - path: /opt/zeros").next().unwrap();
    check(
        "fcos 1.1.0",
        files,
        json!({"ignition": {"version": "3.1.0"}, "storage": {"files": [
            {"path": "/opt/file", "contents": {"compression": "", "source": "data:,Hello%2C%20world!"}, "mode": 420, "user": {"id": 500}, "group": {"id": 501}},
            {"path": "/opt/file3", "contents": {"compression": "", "source": "data:,from%20a%20file"}, "append": [{"compression": "", "source": "data:,%C3%A9"}]},
        ]}}),
    );
}

#[test]
fn a_tree_of_files() {
    let tree = "
storage:
  trees: [{local: tree, path: /etc/files}]
  files: [{path: /etc/files/overridden, mode: 0600, user: {id: 500}}]
";
    check(
        "fcos 1.1.0",
        tree,
        json!({"ignition": {"version": "3.1.0"}, "storage": {
            "files": [
                {"path": "/etc/files/overridden", "mode": 384, "user": {"id": 500}, "contents": {"compression": "", "source": "data:,owned"}},
                {"path": "/etc/files/bin/run", "mode": 493, "contents": {"compression": "", "source": "data:,%23!%2Fbin%2Fsh%0A"}},
                {"path": "/etc/files/file", "mode": 420, "contents": {"compression": "", "source": "data:,plain"}},
            ],
            "links": [{"path": "/etc/files/bin/link", "target": "../file"}],
        }}),
    );
    let taken = "storage:\n  trees: [{local: tree}]\n  directories: [{path: /file}]\n";
    assert!(compiled("fcos 1.1.0", taken).unwrap_err()[0].contains("/file is in the config already"));
}

#[test]
fn mount_units() {
    let mount = "
storage:
  luks: [{name: secret-data, device: /dev/sdc, clevis: {tang: [{url: 'https://t', thumbprint: x}]}}]
  filesystems:
    - {path: /var/lib/my-data, device: /dev/disk/by-partlabel/var, format: btrfs, mount_options: [ro, noatime], with_mount_unit: true}
    - {device: /dev/disk/by-partlabel/swap, format: swap, with_mount_unit: true}
    - {path: /srv, device: /dev/mapper/secret-data, format: ext4, with_mount_unit: true}
systemd:
  units: [{name: srv.mount, contents: \"[Mount]\\nWhat=x\\n\"}]
";
    let units = compiled("fcos 1.4.0", mount).unwrap().config["systemd"]["units"].clone();
    let var = "# Generated by Butane\n[Unit]\nRequires=systemd-fsck@dev-disk-by\\x2dpartlabel-var.service\n\
               After=systemd-fsck@dev-disk-by\\x2dpartlabel-var.service\n\n[Mount]\nWhere=/var/lib/my-data\n\
               What=/dev/disk/by-partlabel/var\nType=btrfs\nOptions=ro,noatime\n\n[Install]\nRequiredBy=local-fs.target";
    let swap = "# Generated by Butane\n[Swap]\nWhat=/dev/disk/by-partlabel/swap\n\n[Install]\nRequiredBy=swap.target";
    assert_eq!(
        units,
        json!([
            {"name": "var-lib-my\\x2ddata.mount", "enabled": true, "contents": var},
            {"name": "dev-disk-by\\x2dpartlabel-swap.swap", "enabled": true, "contents": swap},
            {"name": "srv.mount", "enabled": true, "contents": "[Mount]\nWhat=x\n"},
        ])
    );
    let remote = mount.split("systemd:").next().unwrap();
    let unit = compiled("fcos 1.4.0", remote).unwrap().config["systemd"]["units"][2]["contents"].clone();
    assert!(unit.as_str().unwrap().ends_with("Options=_netdev\n\n[Install]\nRequiredBy=remote-fs.target"), "{unit}");
    let without_path = "storage:\n  filesystems: [{device: /dev/a, format: ext4, with_mount_unit: true}]\n";
    assert!(
        compiled("fcos 1.4.0", without_path).unwrap_err()[0]
            .contains("storage.filesystems.0: with_mount_unit needs a path")
    );
}

#[test]
fn an_encrypted_and_mirrored_boot_device() {
    check(
        "fcos 1.3.0",
        "boot_device: {luks: {tpm2: true}}\nstorage: {filesystems: [{device: /dev/mapper/root, format: ext4}]}\n",
        json!({
            "ignition": {"version": "3.2.0"},
            "storage": {
                "luks": [{"clevis": {"tpm2": true}, "device": "/dev/disk/by-partlabel/root", "label": "luks-root", "name": "root", "wipeVolume": true}],
                "filesystems": [{"device": "/dev/mapper/root", "format": "ext4", "label": "root", "wipeFilesystem": true}],
            },
        }),
    );
    let mirror = "
boot_device: {mirror: {devices: [/dev/sda, /dev/sdb]}}
storage:
  disks: [{device: /dev/sda, partitions: [{label: root-1, size_mib: 8192}, {label: var-1}]}]
";
    let config = compiled("fcos 1.3.0", mirror).unwrap().config;
    let partitions = |disk: usize| config["storage"]["disks"][disk]["partitions"].clone();
    assert_eq!(
        partitions(0),
        json!([
            {"label": "bios-1", "sizeMiB": 1, "typeGuid": "21686148-6449-6E6F-744E-656564454649"},
            {"label": "esp-1", "sizeMiB": 127, "typeGuid": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"},
            {"label": "boot-1", "sizeMiB": 384},
            {"label": "root-1", "sizeMiB": 8192},
            {"label": "var-1"},
        ])
    );
    assert_eq!(partitions(1).as_array().unwrap().len(), 4);
    assert_eq!(config["storage"]["disks"][0]["wipeTable"], true);
    assert_eq!(
        config["storage"]["raid"][0],
        json!({"devices": ["/dev/disk/by-partlabel/boot-1", "/dev/disk/by-partlabel/boot-2"], "level": "raid1", "name": "md-boot", "options": ["--metadata=1.0"]})
    );
    let devices: Vec<&str> = items(&config, "/storage/filesystems").iter().map(|one| text(one, "device")).collect();
    assert_eq!(
        devices,
        ["/dev/disk/by-partlabel/esp-1", "/dev/disk/by-partlabel/esp-2", "/dev/md/md-boot", "/dev/md/md-root"]
    );
    assert!(compiled("fcos 1.3.0", "boot_device: {mirror: {devices: [/dev/sda]}}\n").is_err());
    assert!(compiled("fcos 1.3.0", "boot_device: {luks: {}}\n").is_err());
    let unused = compiled("fcos 1.2.0", "boot_device: {luks: {tpm2: true}}\n").unwrap();
    assert_eq!(unused.warnings, ["boot_device: unused key in this variant and version"]);
}

#[test]
fn grub_users() {
    let grub = "grub: {users: [{name: root, password_hash: grub.pbkdf2.sha512.1.A}]}\n";
    let file = "data:,%23%20Generated%20by%20Butane%0A%0Aset%20superusers%3D%22root%22%0Apassword_pbkdf2%20root%20grub.pbkdf2.sha512.1.A%0A";
    let encoded = compiled("fcos 1.5.0", grub).unwrap().config;
    let source = encoded["storage"]["files"][0]["append"][0]["source"].as_str().unwrap();
    assert!(source == file || source.starts_with("data:;base64,"), "{source}");
    assert_eq!(
        encoded["storage"]["filesystems"],
        json!([{"device": "/dev/disk/by-label/boot", "format": "ext4", "path": "/boot"}])
    );
    assert!(
        compiled("fcos 1.5.0", "grub: {users: [{name: root}]}\n").unwrap_err()[0]
            .starts_with("grub.users.0.password_hash")
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (rest, expected) in [
        (
            "storage: {files: [{path: /a, contents: {inline: a, source: 'http://x'}}]}",
            "storage.files.0.contents: expected one of",
        ),
        (
            "storage: {files: [{path: /a, contents: {local: nothing}}]}",
            "storage.files.0.contents.local: nothing: no such file",
        ),
        ("storage: {files: [{path: a}]}", "as Ignition: /storage/files/0/path: is relative"),
        (
            "systemd: {units: [{name: a.service, contents: a, contents_local: unit}]}",
            "systemd.units.0: both contents and",
        ),
        ("a: [", "invalid YAML: "),
    ] {
        let errors = compiled("fcos 1.5.0", rest).unwrap_err();
        assert!(errors[0].starts_with(expected), "{rest}: {errors:?}");
    }
    let unused = compiled("fcos 1.5.0", "storage: {files: [{path: /a, permissions: 1}]}\nnew: 1\n").unwrap();
    assert_eq!(unused.warnings, ["storage.files.0.permissions: unused key", "new: unused key"]);
    assert!(
        compile("variant: fcos\nversion: 1.5.0\nstorage: {trees: [{local: a}]}\n", None).unwrap_err()[0]
            .contains("no directory")
    );
    assert!(
        compiled("r4e 1.0.0", "kernel_arguments: {should_exist: [quiet]}\n").unwrap_err()[0].contains("not supported")
    );
}
