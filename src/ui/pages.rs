//! The pages. The module of each page fills in the rows.

use maud::{Markup, html};

/// A column of the table of hosts: the key that it is sorted by, and its title.
const HOST_COLUMNS: [(&str, &str); 8] = [
    ("id", "Host"),
    ("mac", "MAC"),
    ("image", "ISO"),
    ("config", "Config"),
    ("phase", "Phase"),
    ("power", "Power"),
    ("boot", "Last boot"),
    ("why", "Why"),
];

/// Returns the page of all hosts.
pub fn hosts() -> Markup {
    html! {
        h1.hidden { "Hosts" }
        section.needs #needs aria-labelledby="needs-title" hidden {
            h2 #needs-title { "Needs you" }
            ul #needs-list {}
        }
        div.tools role="search" aria-label="Hosts" {
            label.hidden for="search" { "Search hosts" }
            input #search type="search" placeholder="Search name, MAC, address, ISO, reason" autocomplete="off" spellcheck="false";
            label.hidden for="phase" { "Phase" }
            select #phase { option value="" { "All phases" } }
            label.hidden for="power" { "Power" }
            select #power { option value="" { "Any power" } option value="on" { "On" } option value="off" { "Off" } option value="unknown" { "Unknown" } }
            span #filter-chip {}
            button type="button" #add-host hidden { "Add host …" }
            output #count for="search phase power" {}
        }
        div.bulk #bulk role="toolbar" aria-label="Selected hosts" hidden {}
        div.scroll #scroll tabindex="0" role="region" aria-label="Table of hosts" {
            table #hosts aria-label="Hosts" {
                thead {
                    tr {
                        th.pick scope="col" { input #all type="checkbox" aria-label="Select all hosts that are shown"; }
                        @for (key, title) in HOST_COLUMNS {
                            th scope="col" data-sort=(key) { button type="button" { (title) } }
                        }
                        th scope="col" { span.hidden { "Actions" } }
                    }
                }
                tbody #rows {}
            }
            div.empty #empty hidden {}
        }
    }
}

/// Returns the page of one host.
pub fn host(namespace: &str, name: &str) -> Markup {
    html! {
        div.page #host data-id=(format!("{namespace}/{name}")) {
            header.title {
                h1 { (name) }
                span.phase #phase {}
                span.power #power {}
                p.facts #facts {}
                div.actions role="toolbar" aria-label="Actions" #actions {}
            }
            section.diagnosis #diagnosis role="status" aria-label="Diagnosis" hidden {}
            section.panel aria-labelledby="target-title" {
                h2 #target-title { "Boots" }
                div.target #target {}
            }
            section.panel aria-labelledby="boot-title" {
                h2 #boot-title { "Boot" }
                div #boot { p.hint { "No boot was seen since the server started." } }
            }
            section.panel aria-labelledby="ledger-title" #ledger hidden {
                h2 #ledger-title { "Where the time went" }
                div #ledgers {}
            }
            section.panel aria-labelledby="rehearsal-title" {
                h2 #rehearsal-title { "What it would get now" }
                p.hint { "A rehearsal asks every protocol what it would answer. Nothing is sent and nothing is recorded." }
                button type="button" #rehearse { "Rehearse the next boot" }
                div #rehearsal aria-live="polite" {}
            }
            section.panel aria-labelledby="history-title" {
                h2 #history-title { "History" }
                div.tabs role="group" aria-label="Show" #history-kind {}
                ol.log #history {}
            }
            section.panel aria-labelledby="object-title" {
                h2 #object-title { "Object" }
                details #object { summary { "JSON, and the commands that do the same" } div {} }
            }
        }
    }
}

/// Returns the page that says that there is no such host.
pub fn no_host(name: &str) -> Markup {
    html! {
        h1 { "No host " code { (name) } }
        p { "It was deleted, or renamed. " a href="/ui/hosts" { "All hosts" } }
    }
}

/// Returns the page of all ISOs.
pub fn isos() -> Markup {
    html! {
        div.page {
            header.title {
                h1 { "ISOs" }
                p.facts { "Drop ISO files anywhere, on any page." }
                div.actions {
                    label.button.primary #add hidden { "Add ISOs …" input.hidden #file type="file" accept=".iso,.img" multiple; }
                }
            }
            div.panel.flush tabindex="0" role="region" aria-label="Table of ISOs" {
                table.plain #isos aria-label="ISOs" {
                    thead {
                        tr {
                            @for title in ["Name", "Recognised as", "Boots", "Size", "Configs", "Hosts", "State"] {
                                th scope="col" class=[NUMBER_COLUMNS.contains(&title).then_some("number")] { (title) }
                            }
                            th scope="col" { span.hidden { "Actions" } }
                        }
                    }
                    tbody #iso-rows {}
                }
                p.empty #empty hidden { "No ISO yet." }
            }
        }
    }
}

/// Returns the page of all boot configs, with the editor.
pub fn configs() -> Markup {
    html! {
        div.page.split {
            section.panel.side aria-labelledby="list-title" {
                h1 #list-title { "Configs" }
                ul.list #list {}
                p.hint #none hidden { "No config yet." }
                button type="button" #new hidden { "New config …" }
            }
            section.panel.editor #editor aria-labelledby="config-title" hidden {
                header.title {
                    h2 #config-title {}
                    span.hint #config-facts {}
                    div.actions {
                        button.primary type="button" #save disabled { "Save" }
                        button.danger type="button" #delete { "Delete …" }
                    }
                }
                div.tabs #files role="group" aria-label="Files" {}
                label.hidden for="text" { "Content of the file" }
                textarea.code #text spellcheck="false" autocomplete="off" autocapitalize="off" wrap="off" {}
                p #verdict role="status" {}
                p.hint #affects {}
                details #preview hidden {
                    summary { "What a host gets" }
                    div.tools {
                        label for="preview-host" { "Host" }
                        select #preview-host {}
                        span.hint #preview-facts {}
                    }
                    div #preview-files aria-live="polite" {}
                }
            }
        }
    }
}

/// Returns the page of the timeline.
pub fn activity() -> Markup {
    html! {
        h1.hidden { "Activity" }
        div.tools role="search" aria-label="Activity" {
            label.hidden for="search" { "Search activity" }
            input #search type="search" placeholder="Search host, event, message" autocomplete="off" spellcheck="false";
            label.hidden for="event" { "Event" }
            select #event { option value="" { "All events" } }
            output #count for="search event" {}
        }
        div.scroll tabindex="0" role="region" aria-label="Timeline" {
            ol.log.whole #activity data-empty="Nothing happened yet." {}
        }
    }
}

/// The states of a lease, with their titles.
const LEASE_STATES: [(&str, &str); 4] =
    [("bound", "Bound"), ("expired", "Expired"), ("released", "Released"), ("declined", "In use by another machine")];

/// Titles of columns with numbers.
const NUMBER_COLUMNS: [&str; 5] = ["Count", "Hosts", "Messages", "Refused", "Size"];

/// Returns a table without rows. A column without a title has actions.
fn table(id: &str, titles: &[&str]) -> Markup {
    html! {
        table.plain {
            thead {
                tr {
                    @for title in titles {
                        th scope="col" class=[NUMBER_COLUMNS.contains(title).then_some("number")] {
                            @if title.is_empty() { span.hidden { "Actions" } } @else { (title) }
                        }
                    }
                }
            }
            tbody id=(id) {}
        }
    }
}

/// Returns the page of the network.
pub fn network() -> Markup {
    html! {
        div.page {
            header.title {
                h1 { "Network" }
                p.facts { "Interfaces with DHCP, other servers and relays that were heard, leases, and what was dropped." }
            }
            p.panel.hint #no-dhcp hidden { "DHCP is off: machines are told by another server where to boot from." }
            div #interfaces aria-live="polite" {}
            section.panel.flush #leases aria-label="Leases" tabindex="0" hidden {
                div.tools role="search" aria-label="Leases" {
                    h2 { "Leases" }
                    label.hidden for="search" { "Search leases" }
                    input #search type="search" placeholder="Search address, MAC, host" autocomplete="off" spellcheck="false";
                    label.hidden for="state" { "State" }
                    select #state {
                        option value="" { "All states" }
                        @for (value, title) in LEASE_STATES { option value=(value) { (title) } }
                    }
                    output #count for="search state" {}
                }
                (table("lease-rows", &["Address", "MAC", "Host", "Hostname", "State", "Until", ""]))
            }
            section.panel.flush #relays aria-label="Relays" tabindex="0" hidden {
                div.tools { h2 { "Relays" } }
                (table("relay-rows", &["Relay", "Sender", "Interface", "State", "Messages", "Refused", "Last heard"]))
            }
            section.panel.flush aria-label="Dropped and refused" tabindex="0" {
                div.tools { h2 { "Dropped and refused since the start" } }
                p.hint #no-drops hidden { "Nothing was dropped, and no request was refused." }
                div #drop-table hidden { (table("drop-rows", &["Count", "What", "Protocol", "Reason"])) }
            }
        }
    }
}

/// Returns the page of the settings in force.
pub fn settings() -> Markup {
    html! {
        div.page {
            header.title {
                h1 { "Settings" }
                p.facts { "In force since the server started, with where each comes from." }
            }
            div.tools role="search" aria-label="Settings" {
                label.hidden for="search" { "Search settings" }
                input #search type="search" placeholder="Search key or value" autocomplete="off" spellcheck="false";
                label.check { input #changed type="checkbox"; "Only those that were set" }
                output #count for="search changed" {}
            }
            div.panel.flush tabindex="0" role="region" aria-label="Table of settings" {
                table.plain #settings aria-label="Settings" {
                    thead { tr { th scope="col" { "Key" } th scope="col" { "Value" } th scope="col" { "From" } } }
                    tbody #setting-rows {}
                }
            }
        }
    }
}
