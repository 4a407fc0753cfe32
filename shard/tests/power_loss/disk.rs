//! A disk, as the calls of a process change it: what is on it for certain, and what may be.
//!
//! A change is certain when a sync of its file, begun after it was done, has ended; that of a name
//! when its folder was synced. A new file's name is not certain by a sync of the file, though some
//! file systems are as kind as that.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::path::{Component, Path, PathBuf};

use super::file::{File, FileChange};
use super::luck::Luck;
use super::strace::{Call, Moment, Trace};

type Node = usize;

pub(crate) struct Disk {
    root: PathBuf,
    /// The first one is the root.
    nodes: Vec<Content>,
    open: HashMap<u64, Open>,
    changes: u64,
    /// By the place of the call: the change that it makes.
    writes: HashMap<usize, (Node, u64)>,
    /// By the place of the call: the changes that it makes certain.
    syncs: HashMap<usize, Vec<u64>>,
}

enum Content {
    File(File),
    Folder(Folder),
}

struct Open {
    node: Node,
    position: u64,
}

#[derive(Default)]
struct Folder {
    certain: Names,
    changes: Vec<Renaming>,
    /// What the process sees.
    now: Names,
}

type Names = BTreeMap<String, Node>;

struct Renaming {
    change: u64,
    removed: Option<String>,
    put: Option<(String, Node)>,
}

impl Renaming {
    fn apply(&self, names: &mut Names) {
        if let Some(name) = &self.removed {
            names.remove(name);
        }
        if let Some((name, node)) = &self.put {
            names.insert(name.clone(), *node);
        }
    }
}

/// What a call does to the disk, as far as it matters when to lose the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Nothing,
    Wrote,
    /// Changed names.
    Named,
    BeganToSync,
    Synced,
}

impl Disk {
    /// A disk with nothing on it.
    pub(crate) fn new() -> Self {
        Disk {
            root: PathBuf::new(),
            nodes: vec![Content::Folder(Folder::default())],
            open: HashMap::new(),
            changes: 0,
            writes: HashMap::new(),
            syncs: HashMap::new(),
        }
    }

    /// Where processes see it from now on; those that had files open are gone.
    pub(crate) fn mount(&mut self, root: &Path) {
        root.clone_into(&mut self.root);
        self.open.clear();
        self.writes.clear();
        self.syncs.clear();
    }

    /// Follows what happened.
    pub(crate) fn follow(&mut self, trace: &Trace, moment: Moment) -> Did {
        match moment {
            Moment::Began(place) => self.began(place, &trace.calls[place]),
            Moment::Ended(place) if trace.calls[place].succeeded() => {
                self.ended(place, &trace.calls[place])
            }
            Moment::Ended(_) => Did::Nothing,
        }
    }

    fn began(&mut self, place: usize, call: &Call) -> Did {
        match call.name.as_str() {
            "write" | "pwrite64" if self.is_here(call) => {
                let open = self.open.get_mut(&call.number(0)).unwrap();
                let data = call.bytes(1);
                let at = if call.name == "write" {
                    let end = open.position + data.len() as u64;
                    mem::replace(&mut open.position, end)
                } else {
                    call.number(3)
                };
                let node = open.node;
                let change = self.change(node, FileChange::Wrote { at, data });
                self.writes.insert(place, (node, change));
                Did::Wrote
            }
            "fsync" | "fdatasync" if self.is_here(call) => {
                let node = self.open[&call.number(0)].node;
                let changes = match &self.nodes[node] {
                    Content::File(file) => file.done().collect(),
                    Content::Folder(folder) => folder.changes.iter().map(|it| it.change).collect(),
                };
                self.syncs.insert(place, changes);
                Did::BeganToSync
            }
            _ => Did::Nothing,
        }
    }

    fn ended(&mut self, place: usize, call: &Call) -> Did {
        match call.name.as_str() {
            "write" | "pwrite64" => {
                if let Some((node, change)) = self.writes.remove(&place) {
                    let Content::File(file) = &mut self.nodes[node] else {
                        unreachable!("only files are written to");
                    };
                    let written = file.is_done(change);
                    assert_eq!(call.result(), written, "the disk of the test is full");
                }
                Did::Nothing
            }
            "fsync" | "fdatasync" => self.synced(place, call),
            "ftruncate" if self.is_here(call) => {
                let node = self.open[&call.number(0)].node;
                self.change(node, FileChange::Cut(call.number(1)));
                Did::Wrote
            }
            "lseek" if self.is_here(call) => {
                let position = call.result();
                self.open.get_mut(&call.number(0)).unwrap().position = position;
                Did::Nothing
            }
            "open" => self.opened(call, 0),
            "openat" => self.opened(call, 1),
            "mkdir" => self.created(&call.path(0), || Content::Folder(Folder::default())),
            "mkdirat" => self.created(&call.path(1), || Content::Folder(Folder::default())),
            "unlink" | "rmdir" => self.renamed(Some(call.path(0)), None),
            "unlinkat" => self.renamed(Some(call.path(1)), None),
            "rename" => self.renamed(Some(call.path(0)), Some((call.path(0), call.path(1)))),
            "renameat" | "renameat2" => {
                self.renamed(Some(call.path(1)), Some((call.path(1), call.path(3))))
            }
            "link" => self.renamed(None, Some((call.path(0), call.path(1)))),
            "linkat" => self.renamed(None, Some((call.path(1), call.path(3)))),
            // The shared memory of SQLite, which is not to survive.
            "mmap"
                if call
                    .path_of_file(4)
                    .is_some_and(|path| is_shared_memory(&path)) =>
            {
                Did::Nothing
            }
            name => {
                let here = call.paths().find(|path| path.starts_with(&self.root));
                assert_eq!(
                    here, None,
                    "what {name} does to a disk is not known to this test"
                );
                Did::Nothing
            }
        }
    }

    fn is_here(&self, call: &Call) -> bool {
        call.path_of_file(0)
            .is_some_and(|path| path.starts_with(&self.root))
    }

    fn change(&mut self, node: Node, what: FileChange) -> u64 {
        self.changes += 1;
        match &mut self.nodes[node] {
            Content::File(file) => file.change(self.changes, what),
            Content::Folder(_) => unreachable!("only files are written to"),
        }
        self.changes
    }

    fn synced(&mut self, place: usize, call: &Call) -> Did {
        let Some(changes) = self.syncs.remove(&place) else {
            return Did::Nothing;
        };
        match &mut self.nodes[self.open[&call.number(0)].node] {
            Content::File(file) => file.make_certain(&changes),
            Content::Folder(folder) => {
                let (certain, changes) = mem::take(&mut folder.changes)
                    .into_iter()
                    .partition(|renaming| changes.binary_search(&renaming.change).is_ok());
                folder.changes = changes;
                let certain: Vec<Renaming> = certain;
                for renaming in certain {
                    renaming.apply(&mut folder.certain);
                }
            }
        }
        Did::Synced
    }

    fn opened(&mut self, call: &Call, path_at: usize) -> Did {
        let path = call.path(path_at);
        if !path.starts_with(&self.root) {
            return Did::Nothing;
        }
        let mut did = Did::Nothing;
        let node = match self.find(&path) {
            Some(node) => node,
            None => {
                assert!(
                    call.has_flag(path_at + 1, "O_CREAT"),
                    "{path:?} was not created"
                );
                did = self.created(&path, || Content::File(File::default()));
                self.nodes.len() - 1
            }
        };
        if call.has_flag(path_at + 1, "O_TRUNC") {
            self.change(node, FileChange::Cut(0));
            did = Did::Named;
        }
        self.open.insert(call.result(), Open { node, position: 0 });
        did
    }

    fn created(&mut self, path: &Path, content: impl Fn() -> Content) -> Did {
        if !path.starts_with(&self.root) {
            return Did::Nothing;
        }
        self.nodes.push(content());
        let node = self.nodes.len() - 1;
        self.rename(path, |name| (None, Some((name, node))))
    }

    /// A name is removed, the node at the first path has the second as a name.
    fn renamed(&mut self, removed: Option<PathBuf>, put: Option<(PathBuf, PathBuf)>) -> Did {
        match (removed, put) {
            (_, Some((from, to))) if !to.starts_with(&self.root) => {
                assert!(!from.starts_with(&self.root), "{from:?} leaves the disk");
                Did::Nothing
            }
            (removed, Some((from, to))) => {
                assert_eq!(from.parent(), to.parent(), "not known to this test");
                let node = self.find(&from).unwrap();
                let removed = removed.as_deref().map(name);
                self.rename(&to, |to| (removed, Some((to, node))))
            }
            (Some(path), None) if path.starts_with(&self.root) => {
                self.rename(&path, |name| (Some(name), None))
            }
            (Some(_) | None, None) => Did::Nothing,
        }
    }

    fn rename(
        &mut self,
        path: &Path,
        how: impl FnOnce(String) -> (Option<String>, Option<(String, Node)>),
    ) -> Did {
        self.changes += 1;
        let (removed, put) = how(name(path));
        let change = self.changes;
        let renaming = Renaming {
            change,
            removed,
            put,
        };
        let folder = self.find(path.parent().unwrap()).unwrap();
        let Content::Folder(folder) = &mut self.nodes[folder] else {
            unreachable!("only folders have names in them");
        };
        renaming.apply(&mut folder.now);
        folder.changes.push(renaming);
        Did::Named
    }

    fn find(&self, path: &Path) -> Option<Node> {
        let mut node = 0;
        for component in path.strip_prefix(&self.root).ok()?.components() {
            let (Content::Folder(folder), Component::Normal(name)) = (&self.nodes[node], component)
            else {
                return None;
            };
            node = *folder.now.get(name.to_str()?)?;
        }
        Some(node)
    }

    /// Writes what a power loss may leave of it to the folder `to`, which is empty.
    pub(crate) fn lose_power(&self, luck: &mut Luck, to: &Path) {
        self.write_folder(0, luck, to, &mut HashMap::new());
    }

    fn write_folder(
        &self,
        node: Node,
        luck: &mut Luck,
        to: &Path,
        written: &mut HashMap<Node, PathBuf>,
    ) {
        let Content::Folder(folder) = &self.nodes[node] else {
            unreachable!("asked for folders");
        };
        let mut names = folder.certain.clone();
        for renaming in &folder.changes {
            if luck.is_kept() {
                renaming.apply(&mut names);
            }
        }
        for (name, node) in names {
            let path = to.join(&name);
            match &self.nodes[node] {
                Content::Folder(_) => {
                    std::fs::create_dir(&path).unwrap();
                    self.write_folder(node, luck, &path, written);
                }
                Content::File(file) => {
                    if let Some(other_name) = written.get(&node) {
                        std::fs::hard_link(other_name, &path).unwrap();
                    } else {
                        let bytes = if is_shared_memory(&path) {
                            luck.rubbish()
                        } else {
                            file.lose_power(luck)
                        };
                        std::fs::write(&path, bytes).unwrap();
                        written.insert(node, path);
                    }
                }
            }
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn is_shared_memory(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with("-shm"))
}
