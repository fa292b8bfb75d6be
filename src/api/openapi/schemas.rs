use serde_json::{Map, Value, json};

use crate::fleet::conditions::{ConditionStatus, ConditionType};
use crate::fleet::{Format, Kind, Phase, Power};

/// Begins every schema's name, as Kubernetes' documents do.
const PREFIX: &str = "org.bootlatch.v1.";

/// Refers to a schema by its short name.
pub fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{PREFIX}{name}")})
}

/// Describes everything that a body can be.
pub fn all() -> Value {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| {
        schemas.insert(format!("{PREFIX}{name}"), schema);
    };
    for kind in Kind::ALL {
        let (about, spec, status) = match kind {
            Kind::BareMetalHost => ("A machine that boots from the network.", "HostSpec", "HostStatus"),
            Kind::IscsiCdrom => ("An ISO that hosts can boot.", "ImageSpec", "ImageStatus"),
            Kind::BootConfig => ("What an installer asks for once it runs.", "ConfigSpec", "ConfigStatus"),
        };
        add(kind.as_str(), object(kind, about, spec, status));
        add(&format!("{kind}List"), list(kind));
        add(&format!("{kind}Event"), event(kind));
    }
    add("HostSpec", host_spec());
    add("HostStatus", host_status());
    add("ImageSpec", image_spec());
    add("ImageStatus", image_status());
    add("ConfigSpec", config_spec());
    let warnings = texts("What is no fault in the config but worth a word.");
    add(
        "ConfigStatus",
        json!({"type": "object", "description": "What was found in the config.", "properties": {"warnings": warnings}}),
    );
    add("ObjectMeta", object_meta());
    add("ListMeta", list_meta());
    add("Status", status());
    add("Table", table());
    add("InstallRequest", install_request());
    add("Condition", condition());
    add("Timeline", timeline());
    add("VirtualMedium", virtual_medium());
    add("Upload", upload());
    crate::api::openapi::generate::schemas().into_iter().for_each(|(name, schema)| add(name, schema));
    add("UploadList", uploads());
    Value::Object(schemas)
}

fn kinds(kind: &str) -> Value {
    json!([{"group": "", "version": "v1", "kind": kind}])
}

/// Describes a text.
pub fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

/// Describes a list of something.
pub fn list_of(about: &str, what: Value) -> Value {
    json!({"type": "array", "items": what, "description": about})
}

fn texts(about: &str) -> Value {
    list_of(about, json!({"type": "string"}))
}

fn time(about: &str) -> Value {
    json!({"type": "string", "format": "date-time", "description": about})
}

fn name(about: &str) -> Value {
    json!({"type": "string", "maxLength": 253, "description": about})
}

fn described(mut schema: Value, about: &str) -> Value {
    // OpenAPI 3.0 ignores what stands beside a $ref, so the reference is wrapped.
    if schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    schema["description"] = about.into();
    schema
}

fn object(kind: Kind, about: &str, spec: &str, status: &str) -> Value {
    json!({
        "type": "object", "description": about, "required": ["metadata", "spec"],
        "x-kubernetes-group-version-kind": kinds(kind.as_str()),
        "properties": {
            "apiVersion": {"type": "string", "enum": ["v1"], "description": "Version of the API."},
            "kind": {"type": "string", "enum": [kind.as_str()], "description": "Kind of the object."},
            "metadata": described(reference("ObjectMeta"), "Name, labels, identity and version."),
            "spec": described(reference(spec), "What is wished for."),
            "status": described(reference(status), "What is. Written by the server alone."),
        },
    })
}

fn list(kind: Kind) -> Value {
    json!({
        "type": "object", "description": format!("Objects of kind {kind}."), "required": ["items", "metadata"],
        "x-kubernetes-group-version-kind": kinds(&format!("{kind}List")),
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": reference("ListMeta"),
            "items": {"type": "array", "items": reference(kind.as_str())},
        },
    })
}

fn event(kind: Kind) -> Value {
    json!({
        "type": "object", "description": "One line of a watch.", "required": ["type", "object"],
        "properties": {
            "type": {"type": "string", "enum": ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]},
            "object": {"type": "object", "description": format!("The {kind}; its version alone in a BOOKMARK; a Status in an ERROR.")},
        },
    })
}

fn object_meta() -> Value {
    let map = |about: &str| json!({"type": "object", "additionalProperties": {"type": "string"}, "description": about});
    json!({
        "type": "object", "description": "What every object has.",
        "properties": {
            "name": name("Name: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit."),
            "generateName": text("Beginning of the name that the server makes where none is given."),
            "namespace": name("Namespace, of kinds that live in one."),
            "labels": map("Words to select objects by."),
            "annotations": map("Words for other programs."),
            "uid": text("Identity: differs from that of an earlier object of the same name."),
            "resourceVersion": text("Version of the object. Sent with a write, the write is for this version only."),
            "generation": {"type": "integer", "format": "int64", "description": "Counts the changes of the spec."},
            "creationTimestamp": time("When the object was created."),
            "ownerReferences": list_of("What the object belongs to. Kept for who asks: removing an owner removes nothing else.", owner()),
            "managedFields": list_of("Who set which field by server-side apply.", json!({"type": "object"})),
        },
    })
}

fn owner() -> Value {
    let flag = |about: &str| json!({"type": "boolean", "description": about});
    json!({
        "type": "object", "required": ["apiVersion", "kind", "name", "uid"],
        "properties": {
            "apiVersion": text("Version of the owner's API."),
            "kind": text("Kind of the owner."),
            "name": text("Name of the owner."),
            "uid": text("Identity of the owner."),
            "controller": flag("Says that the owner is the one that manages the object."),
            "blockOwnerDeletion": flag("Is kept, and has no effect."),
        },
    })
}

fn list_meta() -> Value {
    json!({
        "type": "object",
        "properties": {
            "resourceVersion": text("Version of the state that the list is of: a watch may begin there."),
            "continue": text("Asks for the next page of the list, where there is one."),
        },
    })
}

fn host_spec() -> Value {
    json!({
        "type": "object", "required": ["bootMACAddress"], "description": "What is wished of a machine.",
        "properties": {
            "bootMACAddress": text("Hardware address that the machine boots with, in any usual spelling; one host's alone."),
            "ip": text("Address whose requests for a config are this host's; one host's alone."),
            "image": text("ISCSICdrom to boot; localboot or nothing for the machine's own disk."),
            "bootConfigRef": text("BootConfig that the installer is given; one that the image lists."),
            "bootMode": {"type": "string", "enum": ["once", "forever"], "default": "once",
                         "description": "once: install, then the local disk; forever: the image at every boot."},
            "online": {"type": "boolean", "description": "Power state that is wanted, where a bmc is given. A write that sets or changes it switches the machine, off by asking it to shut down and by cutting its power 3 minutes later; nothing else does."},
            "bmc": {
                "type": "object", "required": ["address"], "description": "Management controller of the machine.",
                "properties": {
                    "address": text("Where the controller is: an address alone speaks IPMI; or ipmi://HOST, redfish://HOST[:PORT][/redfish/v1/Systems/ID], redfish+http://HOST."),
                    "username": text("User to log in as."),
                    "password": text("Password. Reads show REDACTED where there is one; REDACTED written back leaves it. Another controller's address asks for it again."),
                    "disableCertificateVerification": {"type": "boolean", "default": false, "description": "Whether the controller's certificate may be anybody's."},
                },
            },
            "kernelArguments": texts("Kernel arguments that this host gets beside those of its image."),
            "chap": chap("What the host proves itself with to our iSCSI target, in place of the site's."),
            "localDisk": {
                "type": "object", "description": "Where the machine's own disk is, where leaving iPXE misses it.",
                "properties": {
                    "drive": {"type": "integer", "minimum": 0, "maximum": 255, "description": "Drive number for sanboot: 128 is the first disk."},
                    "filename": text("Boot file of the UEFI system partition."),
                },
            },
        },
    })
}

fn host_status() -> Value {
    json!({
        "type": "object", "description": "Where a machine is in its life.",
        "properties": {
            "phase": {"type": "string", "enum": Phase::ALL.map(|phase| phase.to_string()), "description": "Where the machine is in its life."},
            "phaseTransitionTime": time("When the phase last changed."),
            "message": text("Why the phase is what it is, where there is more to say."),
            "warnings": texts("What of the spec has no effect, as of the last write and the last boot."),
            "firmware": text("Architecture that the machine's firmware last claimed."),
            "address": text("Address that the machine last had, as far as more than its own word ties it."),
            "lastSeenTime": time("When the machine last asked for something."),
            "lastBootTime": time("When a script was last given to the machine."),
            "uuid": text("UUID that the machine's firmware last claimed."),
            "power": {"type": "string", "enum": Power::ALL.map(Power::as_str), "description": "Whether the machine runs, as its controller last said."},
            "powerTransitionTime": time("When the power became what it is."),
            "powerError": {
                "type": "object", "description": "What keeps the power unknown.", "required": ["reason", "message"],
                "properties": {"reason": text("One word for programs."), "message": text("What the controller said, or did not.")},
            },
            "powerTransition": {
                "type": "object", "description": "What the controller is being told, for the sake of spec.online; tried for 10 minutes.", "required": ["target", "requestTime"],
                "properties": {"target": {"type": "string", "enum": ["on", "off"], "description": "Power state that is wanted."}, "requestTime": time("When it was written.")},
            },
            "conditions": list_of("What holds of the machine, for `kubectl wait --for=condition=Installed`.", reference("Condition")),
            "install": {
                "type": "object", "description": "What happened since an install was last asked for.",
                "properties": {
                    "firstOfferTime": time("When the first script of this install was given."),
                    "bootCount": {"type": "integer", "description": "Boots that were given the script."},
                    "configFetchTime": time("When the installer was first given its config."),
                    "completionTime": time("When the machine said that it is done."),
                },
            },
        },
    })
}

fn image_spec() -> Value {
    json!({
        "type": "object", "description": "What ISO is served, and how.",
        "properties": {
            "isoFile": text("File: relative to the directory of ISOs, or absolute and served where it lies. None where the ISO lies elsewhere, at portal or url."),
            "description": text("Words for people."),
            "readOnly": {"type": "boolean", "default": true, "description": "Always true: a CD-ROM is read-only."},
            "bootConfigs": texts("Boot configs that hosts may combine with the ISO."),
            "method": {"type": "string", "enum": ["sanboot", "kernel", "sanhook", "http", "chain"], "default": "sanboot", "description": "How a machine boots the ISO: its own loader over iSCSI, its kernel over HTTP, that with the ISO attached, the ISO over HTTP, or another URL."},
            "url": text("What method chain goes to."),
            "kernelArguments": texts("Kernel arguments that every boot of the ISO gets, beside those in its own menus."),
            "removeArguments": texts("Kernel arguments that are taken out: whole, or by name with its '='."),
            "configDelivery": {"type": "string", "enum": ["auto", "embed", "seed", "none"], "default": "auto", "description": "How the installer is told where a host's config is: by kernel arguments, within the ISO, by a NoCloud seed, or not at all."},
            "companions": texts("ISOs that are attached beside this one."),
            "attachAs": {"type": "string", "enum": ["cdrom", "disk"], "default": "cdrom", "description": "What the ISO shows itself as over iSCSI."},
            "portal": {
                "type": "object", "required": ["address", "targetIqn"], "description": "Target elsewhere that serves the ISO in our stead.",
                "properties": {
                    "address": text("Address of the portal."),
                    "port": {"type": "integer", "minimum": 0, "maximum": 65535, "default": 3260, "description": "Its port."},
                    "targetIqn": text("Name of the target."),
                    "chap": chap("What initiators prove themselves with there; it is told to no other portal."),
                },
            },
        },
    })
}

fn chap(description: &str) -> Value {
    json!({
        "type": "object", "required": ["username", "secret"], "description": description,
        "properties": {
            "username": text("Name of the initiator."),
            "secret": text("Secret of the initiator, 12 octets or more. Reads show REDACTED; REDACTED written back leaves it."),
            "targetUsername": text("Name that the target proves itself with, where it is asked to."),
            "targetSecret": text("Secret of the target. Reads show REDACTED; REDACTED written back leaves it."),
        },
    })
}

fn image_status() -> Value {
    json!({
        "type": "object", "description": "What was found in the ISO, and where it is served.",
        "properties": {
            "phase": text("Ready, or Broken with the reason in message."),
            "message": text("Why the ISO cannot be served."),
            "warnings": texts("What of the ISO is not as hosts may expect that get a view of their own."),
            "targetIQN": text("Name of the iSCSI target."),
            "portalIP": text("Address of the portal."),
            "portalPort": {"type": "integer", "description": "Port of the portal."},
            "sizeBytes": {"type": "integer", "format": "int64", "description": "Size of the file."},
            "sha256": text("Digest of the file, where it was uploaded."),
            "fileModificationTime": time("When the file was last written, as it was looked at."),
            "volumeID": text("Volume identifier."),
            "distribution": text("What the ISO holds, in its makers' words."),
            "family": text("The distribution's family."),
            "kernel": {
                "type": "object", "description": "What the ISO's own menu boots first.",
                "properties": {
                    "kernel": text("Path of the kernel in the ISO."),
                    "initrds": texts("Paths of the initrds in the ISO."),
                    "arguments": text("Arguments of the kernel."),
                },
            },
            "boots": {
                "type": "object", "description": "Firmware that boots the ISO by its El Torito catalogue.",
                "properties": {
                    "bios": {"type": "boolean", "description": "BIOS does."}, "uefi": {"type": "boolean", "description": "UEFI does."},
                },
            },
        },
    })
}

fn config_spec() -> Value {
    json!({
        "type": "object", "required": ["format"], "description": "Files of one config.",
        "properties": {
            "format": {"type": "string", "enum": Format::ALL.map(|format| format.to_string()), "description": "Who reads the config."},
            "data": {"type": "object", "additionalProperties": {"type": "string"},
                     "description": "Files by name. The main one must be there: config.ign, user-data, ks.cfg, preseed.cfg or script."},
            "confidential": {"type": "boolean", "description": "Whether the files hold secrets: reads then show REDACTED for each, and REDACTED written back leaves it."},
        },
    })
}

fn condition() -> Value {
    json!({
        "type": "object", "required": ["type", "status", "reason", "message"], "description": "Something that holds of a machine, or does not.",
        "properties": {
            "type": {"type": "string", "enum": ConditionType::ALL,
                     "description": "Installed: the machine said that it is done; ConfigDelivered: its installer was given its config, where it has one; PowerKnown: its controller answers, where it has one."},
            "status": {"type": "string", "enum": ConditionStatus::ALL, "description": "Whether it holds."},
            "reason": text("Why, in one word."),
            "message": text("Why, for people."),
            "lastTransitionTime": time("When the status last changed."),
        },
    })
}

fn install_request() -> Value {
    json!({
        "type": "object", "description": "What an install is asked for with; what is left out stays as it is.", "additionalProperties": false,
        "properties": {
            "image": text("ISCSICdrom to install from."),
            "bootConfigRef": text("BootConfig for its installer; empty for none."),
            "bootMode": {"type": "string", "enum": ["once", "forever"], "description": "Whether to boot the image once or for ever."},
        },
    })
}

fn upload() -> Value {
    json!({
        "type": "object", "required": ["offset"], "description": "How far an upload came.",
        "properties": {"offset": {"type": "integer", "format": "int64", "description": "Bytes of it that are there."}},
    })
}

fn uploads() -> Value {
    let one = json!({
        "type": "object", "required": ["key", "offset"], "description": "An upload that is not done.",
        "properties": {
            "key": text("What it is named by."),
            "name": text("Name of the ISO that it was to be."),
            "offset": {"type": "integer", "format": "int64", "description": "Bytes of it that are there."},
            "lastWritten": time("When the last of them came."),
            "keptUntil": time("When it goes, if nobody goes on with it."),
        },
    });
    json!({
        "type": "object", "required": ["items"], "description": "Uploads that are not done.",
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "items": {"type": "array", "items": one},
        },
    })
}

fn virtual_medium() -> Value {
    json!({
        "type": "object", "required": ["url"], "description": "What a BMC is given to boot its machine from.",
        "properties": {
            "image": text("ISCSICdrom that the host boots."),
            "url": text("Where the host's view of it is read, by who has the URL: the same bytes to the end."),
            "etag": text("Tag of those bytes, the same over every transport."),
            "sizeBytes": {"type": "integer", "format": "int64", "description": "Number of those bytes."},
        },
    })
}

fn timeline() -> Value {
    json!({
        "type": "object", "required": ["items"], "description": "What happened, oldest first.",
        "properties": {"items": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "time": time("When; the first time, where it happened again and again."),
                "last": time("When it happened last."),
                "count": {"type": "integer", "description": "How often it happened, where more than once."},
                "mac": {"type": "string", "nullable": true}, "host": {"type": "string", "nullable": true},
                "event": text("Code of the event: first_seen, offer, script, ..."), "detail": {"type": "object", "description": "Fields of the event."},
            },
        }}},
    })
}

fn table() -> Value {
    json!({
        "type": "object", "description": "Objects as rows, for `Accept: application/json;as=Table;v=v1;g=meta.k8s.io`.",
        "properties": {
            "metadata": reference("ListMeta"),
            "columnDefinitions": {"type": "array", "items": {"type": "object"}},
            "rows": {"type": "array", "items": {"type": "object"}},
        },
    })
}

fn status() -> Value {
    json!({
        "type": "object", "required": ["kind", "status", "code"], "description": "What could not be done, and why; or what was.",
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string", "enum": ["Status"]}, "metadata": {"type": "object"},
            "status": {"type": "string", "enum": ["Success", "Failure"]},
            "message": text("A sentence that tells what to do."),
            "reason": text("The reason in one word."),
            "code": {"type": "integer", "description": "The HTTP status."},
            "details": {"type": "object", "properties": {
                "name": {"type": "string"}, "kind": {"type": "string"}, "uid": {"type": "string"},
                "causes": {"type": "array", "items": {"type": "object", "properties": {
                    "reason": {"type": "string"}, "message": {"type": "string"}, "field": {"type": "string"},
                }}},
            }},
        },
    })
}
