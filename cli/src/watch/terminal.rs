//! The terminal: taken over for the screen, and given back however that ends. Everything goes to stderr, so that a report on
//! stdout can go into a file.

use super::model::{Input, Key};
use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use std::{
    io::{self, BufWriter, IsTerminal as _, Stderr},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Keys that wait to be looked at; more are dropped.
const KEYS_WAITING_MAX: usize = 32;
/// How often the reader of keys looks whether it is still wanted.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// The terminal is taken over.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// There is a terminal that can be drawn on.
pub(super) fn is_there() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && io::stdin().is_terminal() && !is_dumb
}

/// Gives the terminal back, if it is taken.
fn restore() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // Nothing helps where this fails.
        let _ = disable_raw_mode();
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    }
}

/// A panic gives the terminal back before it says anything.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            before(info);
        }));
    });
}

/// The terminal, as long as this value lives.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    keys: mpsc::Receiver<Input>,
    is_closed: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Self> {
        restore_on_panic();
        IS_TAKEN.store(true, Ordering::SeqCst);
        Self::open_taken().inspect_err(|_| restore())
    }

    fn open_taken() -> io::Result<Self> {
        enable_raw_mode()?;
        execute!(io::stderr(), EnterAlternateScreen)?;
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr())))?;
        let (sender, keys) = mpsc::channel(KEYS_WAITING_MAX);
        let is_closed = Arc::<AtomicBool>::default();
        let closed = is_closed.clone();
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&sender, &closed))?;
        Ok(Self { terminal, keys, is_closed })
    }

    /// Draws the screen anew; what has not changed is not sent.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render).map(drop)
    }

    /// The next key, or that the window has another size, which shows with the next drawing. `None`: no key comes any more.
    pub(super) async fn key(&mut self) -> Option<Input> {
        self.keys.recv().await
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::SeqCst);
        restore();
    }
}

/// Reads keys until the screen is closed.
fn read_keys(sender: &mpsc::Sender<Input>, is_closed: &AtomicBool) {
    while !is_closed.load(Ordering::SeqCst) {
        let event = match event::poll(KEY_WAIT) {
            Ok(true) => event::read(),
            Ok(false) => continue,
            Err(e) => Err(e),
        };
        let input = match event {
            Ok(Event::Key(key)) => key_of(key).map(Input::Key),
            Ok(Event::Resize(..)) => Some(Input::Resized),
            Ok(_) => None,
            Err(_) => return,
        };
        if let Some(input) = input {
            // Whoever leans on a key does not get ahead of the screen.
            let _ = sender.try_send(input);
        }
    }
}

/// What a key means here.
fn key_of(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    if event.modifiers.contains(KeyModifiers::CONTROL) {
        return (event.code == KeyCode::Char('c')).then_some(Key::Interrupt);
    }
    Some(match event.code {
        KeyCode::Char(letter) => Key::Char(letter),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Esc => Key::Escape,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_is_no_c() {
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(key_of(control), Some(Key::Interrupt));
        assert_eq!(key_of(KeyEvent::new(KeyCode::Char('d'), KeyModifiers::CONTROL)), None);
        assert_eq!(key_of(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::NONE)), Some(Key::Char('c')));
        assert_eq!(key_of(KeyEvent::new(KeyCode::PageDown, KeyModifiers::NONE)), Some(Key::PageDown));
        assert_eq!(key_of(KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE)), None);
    }
}
