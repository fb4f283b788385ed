//! Small objects that arrive one by one are hashed and staged many at a time, by few threads.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::io::Result as SystemResult;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::content::Asked;
use crate::destination::Staged;
use crate::error::{Class, Error, Report};
use crate::object::Content;

use super::Handle;
use super::fault::failed;
use super::staging::{StagedFile, Writer};
use super::tree::Tree;

/// Threads that stage at once for one tree: hashing is most of it, so more help only where there are processors.
const MOST_THREADS: usize = 4;
/// A thread takes so many at a time; they are answered together.
const BATCH: usize = 16;

/// Where small objects wait for a thread.
///
/// To hand every object to a thread of its own costs more than to write its file. So one that is under way takes what
/// has come in the meantime, and ends when nothing more waits: with much to do there are few hand-overs, with little
/// nobody waits.
pub struct Desk {
    tree: Arc<Tree>,
    queue: Mutex<Queue>,
    threads: usize,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Job>,
    threads: usize,
}

struct Job {
    chunks: Vec<Bytes>,
    asked: Asked,
    answer: oneshot::Sender<Result<Staged<Handle>, Error>>,
}

impl Desk {
    pub fn new(tree: Arc<Tree>) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self { tree, queue: Mutex::default(), threads: processors.min(MOST_THREADS) })
    }

    /// Hashes and stages one whole object. Once handed over it goes on to its end; dropped, its file is removed.
    pub async fn stage(self: &Arc<Self>, chunks: Vec<Bytes>, asked: Asked) -> Result<Staged<Handle>, Error> {
        let (answer, answered) = oneshot::channel();
        if let Some(thread) = self.hand_in(Job { chunks, asked, answer }) {
            spawn_blocking(move || thread.work());
        }
        match answered.await {
            Ok(staged) => staged,
            Err(stopped) => Err(Error::of(Class::Transient, Report::new("stage", "destination", stopped))),
        }
    }

    /// Queues a job; the thread that is to be started for it, if there are not enough for all that wait.
    fn hand_in(self: &Arc<Self>, job: Job) -> Option<Thread> {
        let mut queue = self.queue();
        queue.waiting.push(job);
        let enough = queue.threads * BATCH >= queue.waiting.len() && queue.threads > 0;
        if enough || queue.threads >= self.threads {
            return None;
        }
        queue.threads += 1;
        Some(Thread { desk: self.clone(), gone: false })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the desk's threads, from when it is asked for until it has gone, whatever ends it.
struct Thread {
    desk: Arc<Desk>,
    gone: bool,
}

impl Thread {
    fn work(mut self) {
        let mut buffer = Vec::new();
        while let Some(jobs) = self.next() {
            let staged = jobs.into_iter().map(|job| {
                let staged = stage(&self.desk.tree, &job, &mut buffer);
                (job.answer, staged)
            });
            for (answer, staged) in staged.collect::<Vec<_>>() {
                // Nobody may be waiting any more; then the file is removed here.
                let _ = answer.send(staged);
            }
        }
    }

    /// What waits, in the order in which it came; with nothing left the thread is gone, and whoever comes next knows.
    fn next(&mut self) -> Option<Vec<Job>> {
        let mut queue = self.desk.queue();
        if queue.waiting.is_empty() {
            queue.threads -= 1;
            self.gone = true;
            return None;
        }
        let rest = queue.waiting.len().min(BATCH);
        let rest = queue.waiting.split_off(rest);
        Some(mem::replace(&mut queue.waiting, rest))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if !self.gone {
            // It never ran, or broke off: what waits must not wait for it.
            let mut queue = self.desk.queue();
            queue.threads -= 1;
            if queue.threads == 0 {
                queue.waiting.clear();
            }
        }
    }
}

fn stage(tree: &Arc<Tree>, job: &Job, buffer: &mut Vec<u8>) -> Result<Staged<Handle>, Error> {
    let (content, staged) = write(tree, job, buffer).map_err(|errno| failed("stage", &tree.path, errno))?;
    Ok(Staged { content, handle: Handle(staged) })
}

fn write(tree: &Arc<Tree>, job: &Job, buffer: &mut Vec<u8>) -> SystemResult<(Content, StagedFile)> {
    let mut writer = Writer::create_with(tree, job.asked, mem::take(buffer))?;
    job.chunks.iter().try_for_each(|chunk| writer.write(chunk))?;
    let (content, staged, used) = writer.finish_with_buffer()?;
    *buffer = used;
    Ok((content, staged))
}
