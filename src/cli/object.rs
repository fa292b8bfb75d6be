//! Commands on objects of all kinds, as in kubectl.

use clap::Subcommand;
use clap_complete::engine::ArgValueCompleter;

use super::apply::{self, ApplyMode};
use super::client::ApiClient;
use super::completion;
use super::connection::ConnectionArgs;
use super::delete::{self, DeleteArgs};
use super::describe;
use super::edit;
use super::exit::{Differs, ExitStatus, Trouble, UsageError, exit_code};
use super::explain;
use super::get::{self, SelectionArgs, ViewArgs};
use super::manifests::ManifestArgs;
use super::reference::{self, OBJECTS_HELP, Wanted};
use super::show::ObjectFormat;
use super::timeline::{self, TimelineArgs};
use super::wait::{self, Goal};
use super::watch;
use super::why::{self, WhyArgs};

/// Commands on objects of all kinds.
#[derive(Debug, Subcommand)]
pub enum ObjectCommand {
    /// Show objects
    #[command(after_help = "Examples:\n  bootlatch get hosts\n  bootlatch get host node1 node2 -o yaml\n  \
                            bootlatch get hosts,isos -A\n  bootlatch get host/node1 iso/live\n  \
                            bootlatch get hosts -l rack=r1 -o name | xargs bootlatch delete\n  \
                            bootlatch get hosts -o yaml | bootlatch apply -f -")]
    Get {
        #[arg(value_name = "OBJECT", required = true, help = OBJECTS_HELP, add = ArgValueCompleter::new(completion::objects))]
        objects: Vec<String>,
        #[command(flatten)]
        selection: SelectionArgs,
        #[command(flatten)]
        view: ViewArgs,
    },
    /// Show objects with their timelines
    #[command(after_help = "Examples:\n  bootlatch describe host node1\n  bootlatch describe iso/live")]
    Describe {
        #[arg(value_name = "OBJECT", required = true, help = OBJECTS_HELP, add = ArgValueCompleter::new(completion::objects))]
        objects: Vec<String>,
        /// Namespace of the host
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Create or change objects by manifests (server-side apply)
    #[command(
        after_help = "Examples:\n  bootlatch apply -f site.yaml --dry-run\n  bootlatch apply -R -f manifests/\n  \
                            bootlatch apply -k overlays/lab\n  kustomize build . | bootlatch apply -f -"
    )]
    Apply {
        #[command(flatten)]
        manifests: ManifestArgs,
        /// Take over fields of other field managers
        #[arg(long)]
        force: bool,
        /// Print the result without changing anything
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what applying manifests would change
    #[command(after_help = "Examples:\n  bootlatch diff -f site.yaml\n\n\
                            Exit status: 0 for no differences, 1 for some, as of diff(1); more for a failure.")]
    Diff {
        #[command(flatten)]
        manifests: ManifestArgs,
        /// Compare as if fields of other field managers were taken over
        #[arg(long)]
        force: bool,
    },
    /// Delete objects
    #[command(
        after_help = "Examples:\n  bootlatch delete host node1 node2\n  bootlatch delete host/node1 config/ks\n  \
                            bootlatch delete -f site.yaml\n  bootlatch delete hosts -l rack=r1\n  \
                            bootlatch delete isos --all"
    )]
    Delete(DeleteArgs),
    /// Print the changes of objects until interrupted
    #[command(after_help = "Examples:\n  bootlatch watch hosts\n  bootlatch watch host node1 -o json")]
    Watch {
        /// KIND [NAME] or KIND/NAME; kinds: host, iso, config
        #[arg(value_name = "OBJECT", required = true, add = ArgValueCompleter::new(completion::objects))]
        objects: Vec<String>,
        #[command(flatten)]
        selection: SelectionArgs,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: ObjectFormat,
    },
    /// Wait until objects are in a state; for 30s in all, or --timeout
    #[command(after_help = "Examples:\n  bootlatch wait host/node1 --for=phase=Installed --timeout=1h\n  \
                            bootlatch wait iso live --for=condition=Ready\n  bootlatch wait host/node1 --for=delete")]
    Wait {
        /// KIND NAME... or KIND/NAME...; kinds: host, iso, config
        #[arg(value_name = "OBJECT", required = true, add = ArgValueCompleter::new(completion::objects))]
        objects: Vec<String>,
        /// State: condition=TYPE[=STATUS], phase=PHASE or delete
        #[arg(long = "for", value_name = "STATE")]
        goal: Goal,
        /// Namespace of the hosts
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Edit an object in $KUBE_EDITOR, $EDITOR or vi
    #[command(after_help = "Examples:\n  bootlatch edit host/node1\n  EDITOR='code --wait' bootlatch edit config ks")]
    Edit {
        /// KIND NAME or KIND/NAME; kinds: host, iso, config
        #[arg(value_name = "OBJECT", required = true, add = ArgValueCompleter::new(completion::objects))]
        objects: Vec<String>,
        /// Namespace of the host
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Describe the fields of a kind
    #[command(after_help = "Examples:\n  bootlatch explain host\n  bootlatch explain host.spec.bmc")]
    Explain {
        /// Kind, or a field of it with dots
        #[arg(value_name = "KIND[.FIELD...]")]
        field: String,
    },
    /// Show what happened to a host, or to all
    #[command(
        after_help = "Examples:\n  bootlatch timeline node1\n  bootlatch timeline node1 --ledger\n  bootlatch timeline -f"
    )]
    Timeline(TimelineArgs),
    /// Show why a host does not boot, and the steps of its boots
    Why(WhyArgs),
    /// Show what happened to a host, as `timeline` does
    #[command(after_help = "Examples:\n  bootlatch logs -f node1")]
    Logs(TimelineArgs),
}

/// Runs a command on objects.
///
/// # Errors
/// The server refuses a request, or a manifest is invalid.
pub async fn run(verb: ObjectCommand, connection_args: &ConnectionArgs) -> anyhow::Result<()> {
    let connect = async || ApiClient::connect(connection_args).await;
    match verb {
        ObjectCommand::Get { objects, selection, view } => {
            let wanted = reference::parse(&objects)?;
            get::show_objects(&mut connect().await?, &wanted, &selection, view).await
        }
        ObjectCommand::Describe { objects, namespace } => {
            let wanted = reference::parse(&objects)?;
            describe::describe(&mut connect().await?, &wanted, &namespace).await
        }
        ObjectCommand::Apply { manifests, force, dry_run } => {
            check_given(&manifests)?;
            let manifests = manifests.read()?;
            apply::apply(&mut connect().await?, manifests, ApplyMode { force, dry_run }).await
        }
        ObjectCommand::Diff { manifests, force } => {
            check_given(&manifests)?;
            let compared = async { apply::diff(&mut connect().await?, manifests.read()?, force).await };
            compared.await.map_err(|error| match exit_code(&error) {
                ExitStatus::Failed if !error.is::<Differs>() => Trouble(format!("{error:#}")).into(),
                _ => error,
            })
        }
        ObjectCommand::Delete(args) => delete::delete(&mut connect().await?, &args).await,
        ObjectCommand::Watch { objects, selection, output } => {
            let wanted = reference::parse(&objects)?;
            let (kind, name) = match wanted.as_slice() {
                [Wanted { kind, names }] if names.len() <= 1 => (*kind, names.first().map(String::as_str)),
                _ => return Err(UsageError("watch follows one kind, or one object".to_owned()).into()),
            };
            watch::watch(connection_args, kind, name, &selection, output).await
        }
        ObjectCommand::Wait { objects, goal, namespace } => {
            wait::wait(connection_args, &reference::parse(&objects)?, &namespace, &goal).await
        }
        ObjectCommand::Edit { objects, namespace } => {
            let wanted = reference::parse(&objects)?;
            match wanted.as_slice() {
                [Wanted { kind, names }] if names.len() == 1 => {
                    edit::edit(&mut connect().await?, *kind, &namespace, &names[0]).await
                }
                _ => Err(UsageError("edit takes one object: KIND/NAME".to_owned()).into()),
            }
        }
        ObjectCommand::Explain { field } => explain::explain(&mut connect().await?, &field).await,
        ObjectCommand::Why(args) => why::why(connection_args, &args).await,
        ObjectCommand::Timeline(args) | ObjectCommand::Logs(args) => {
            timeline::timeline(connection_args, args.host.as_deref(), &args.view).await
        }
    }
}

/// Checks that manifests are named.
fn check_given(manifests: &ManifestArgs) -> Result<(), UsageError> {
    match manifests.is_given() {
        true => Ok(()),
        false => Err(UsageError("name the manifests: -f FILE, -f DIRECTORY, -f - or -k DIRECTORY".to_owned())),
    }
}
