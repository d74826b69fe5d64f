//! The kernel's requests, answered from the model.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::model::{Ino, Model};
use super::plan::What;
use super::shared::{Refuse, Shared};

/// Nothing is remembered by the kernel but pages: what is done and not answered must be found.
const REMEMBERED: Duration = Duration::ZERO;

/// Handler of the mount's requests.
pub(super) struct Fuse(pub(super) Arc<Shared>);

fn attributes(model: &Model, ino: Ino) -> Result<FileAttr, Errno> {
    let node = model.nodes.get(&ino).ok_or(Errno::ENOENT)?;
    let size = node.file.as_ref().map_or(0, |file| file.cached.len() as u64);
    Ok(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: node.modified,
        kind: if node.file.is_some() { FileType::RegularFile } else { FileType::Directory },
        perm: node.mode,
        nlink: if node.file.is_some() { model.links(ino) } else { 2 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn send_entry(reply: ReplyEntry, attributes: FileAttr) {
    reply.entry(&REMEMBERED, &attributes, Generation(0));
}

fn send_ok(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

macro_rules! refuse {
    ($($reply:ty),*) => {
        $(impl Refuse for $reply {
            fn refuse(self: Box<Self>, errno: Errno) {
                (*self).error(errno);
            }
        })*
    };
}
refuse!(ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite);

impl Filesystem for Fuse {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let act = |model: &mut Model| attributes(model, model.find(parent.0, name)?);
        self.0.answer(None, reply, act, send_entry);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let act = |model: &mut Model| attributes(model, ino.0);
        self.0.answer(None, reply, act, |reply, found| reply.attr(&REMEMBERED, &found));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let act = |model: &mut Model| {
            let node = model.node(ino.0)?;
            node.modified = match modified {
                Some(TimeOrNow::SpecificTime(time)) => time,
                _ => SystemTime::now(),
            };
            node.mode = mode.map_or(node.mode, |mode| (mode & 0o777) as u16);
            if let Some(size) = size {
                model.file(ino.0)?.set_size(size as usize);
            }
            attributes(model, ino.0)
        };
        let counted = size.map(|_| (What::Write, self.0.name(ino.0)));
        self.0.answer(counted, reply, act, |reply, found| reply.attr(&REMEMBERED, &found));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let act = |model: &mut Model| {
            let ino = model.create(parent.0, name, false, mode & !umask)?;
            attributes(model, ino)
        };
        self.0.answer(Some((What::Names, name.to_owned())), reply, act, send_entry);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let act = |model: &mut Model| {
            let ino = model.create(parent.0, name, true, mode & !umask)?;
            attributes(model, ino)
        };
        let send = |reply: ReplyCreate, made| {
            let (handle, flags) = (FileHandle(0), FopenFlags::empty());
            reply.created(&REMEMBERED, &made, Generation(0), handle, flags);
        };
        self.0.answer(Some((What::Names, name.to_owned())), reply, act, send);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let act = |model: &mut Model| model.unlink(parent.0, name);
        self.0.answer(Some((What::Names, name.to_owned())), reply, act, send_ok);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let act = |model: &mut Model| model.unlink(parent.0, name);
        self.0.answer(Some((What::Names, name.to_owned())), reply, act, send_ok);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let act = |model: &mut Model| match flags.is_empty() {
            true => model.rename((parent.0, name), (new_parent.0, new_name)),
            false => Err(Errno::EINVAL),
        };
        self.0.answer(Some((What::Names, new_name.to_owned())), reply, act, send_ok);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let act = |model: &mut Model| {
            model.link(ino.0, parent.0, name)?;
            attributes(model, ino.0)
        };
        self.0.answer(Some((What::Names, name.to_owned())), reply, act, send_entry);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let act = |model: &mut Model| {
            let bytes = &model.file(ino.0)?.cached;
            let start = (offset as usize).min(bytes.len());
            let end = (start + size as usize).min(bytes.len());
            Ok(bytes[start..end].to_vec())
        };
        self.0.answer(None, reply, act, |reply, bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let act = |model: &mut Model| {
            model.node(ino.0)?.modified = SystemTime::now();
            model.file(ino.0)?.write(offset as usize, data);
            Ok(data.len() as u32)
        };
        let end = offset + data.len() as u64;
        if let Err(errno) = self.0.make_room(ino.0, end) {
            return reply.error(errno);
        }
        let counted = Some((What::Write, self.0.name(ino.0)));
        self.0.answer(counted, reply, act, |reply, size| reply.written(size));
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let counted = Some((What::Sync, self.0.name(ino.0)));
        self.0.answer(counted, reply, |model: &mut Model| model.sync(ino.0), send_ok);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let counted = Some((What::Sync, self.0.name(ino.0)));
        self.0.answer(counted, reply, |model: &mut Model| model.sync(ino.0), send_ok);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let act = |model: &mut Model| {
            let names = model.cached.get(&ino.0).ok_or(Errno::ENOTDIR)?;
            let kind = |ino: &Ino| match model.nodes[ino].file {
                Some(_) => FileType::RegularFile,
                None => FileType::Directory,
            };
            Ok(names.iter().map(|(name, ino)| (*ino, kind(ino), name.clone())).collect::<Vec<_>>())
        };
        let send = move |mut reply: ReplyDirectory, entries: Vec<_>| {
            for (number, (ino, kind, name)) in (1..).zip(entries).skip(offset as usize) {
                if reply.add(INodeNo(ino), number, kind, name) {
                    break;
                }
            }
            reply.ok();
        };
        self.0.answer(None, reply, act, send);
    }
}
