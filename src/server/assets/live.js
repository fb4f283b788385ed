// Keeps an open page true: takes what the daemon sends, and says how old it is when nothing comes.
"use strict";
(() => {
  const BEAT_MS = 15000;
  // What was drawn by the server is drawn again this often, and soon after something changed.
  const REDRAW_MS = 60000;
  const SOON_MS = 1500;
  const byId = (id) => document.getElementById(id);
  const shapes = { current: "●", "catching_up": "◐", "new": "◐", unknown: "▲", late: "▲", failing: "✖" };
  const classes = { current: "good", "catching_up": "busy", "new": "busy", unknown: "warn", late: "warn", failing: "bad" };
  let heard = Date.now();
  let ahead = 0;
  let known = null;
  let polled = 0;
  let redraw = Date.now() + REDRAW_MS;

  const age = (seconds) => {
    const s = Math.max(0, Math.floor(seconds));
    if (s < 120) return `${s} s`;
    if (s < 7200) return `${Math.floor(s / 60)} min`;
    if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
  };
  const when = (at) => (at ? at.replace("T", " ").replace(/(\.\d+)?Z$/, "Z") : "never");
  const bytes = (n) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let u = 0;
    while (n >= 1024 && u < units.length - 1) { n /= 1024; u += 1; }
    return `${u ? n.toFixed(2) : n} ${units[u]}`;
  };
  const put = (row, field, text) => {
    const cell = row.querySelector(`[data-f="${field}"]`);
    if (cell && cell.textContent !== text) cell.textContent = text;
  };
  const proofs = { held: "held back" };
  const proven = (row) => {
    const word = proofs[row.proof] || row.proof;
    if (!row.proven_through) return word;
    return when(row.proven_through) + (row.proof === "proven" ? "" : ` (${word})`);
  };

  const renew = (row, account) => {
    row.className = classes[account.condition] || "";
    const shape = row.querySelector(".shape");
    if (shape) shape.textContent = shapes[account.condition] || "";
    put(row, "word", account.condition.replace("_", " "));
    put(row, "hops", account.failing_hops.join(", "));
    put(row, "listed", when(account.listed_through));
    put(row, "proven", proven(account));
    row.querySelector('[data-f="proven"]')?.classList.toggle("held", account.proof === "held");
    put(row, "newest", when(account.newest_object));
    put(row, "objects", String(account.objects));
    put(row, "bytes", bytes(account.bytes));
    put(row, "failing", String(account.failing));
    put(row, "quarantined", String(account.quarantined));
    put(row, "requests", String(account.requests));
    const lag = row.querySelector("[data-from]");
    if (lag) lag.dataset.from = account.lag_from || "";
  };

  const tell = (at) => {
    heard = Date.now();
    ahead = Date.parse(at) - heard;
    byId("at").dateTime = at;
    byId("at").textContent = when(at);
  };

  const take = (state) => {
    tell(state.at);
    const sentence = byId("sentence");
    if (sentence) {
      if (sentence.textContent !== state.summary) sentence.textContent = state.summary;
      byId("summary").className = `summary ${classes[state.condition] || ""}`;
      byId("summary").querySelector(".shape").textContent = shapes[state.condition] || "";
      if ("objects_per_second" in state) byId("rate").textContent = `${state.objects} objects here, ${state.objects_per_second} a second now`;
    }
    const rows = new Map([...document.querySelectorAll("[data-key]")].map((row) => [row.dataset.key, row]));
    // What no row shows is drawn by the server: troubles, alarms, calendars, the order of accounts.
    let drawn = `${state.alarms} ${state.condition}`;
    let moved = known !== null && known !== drawn;
    known = drawn;
    for (const account of state.accounts) {
      const id = (account.organization ? `${account.organization}:` : "") + account.account;
      const row = rows.get(id ? `${account.source}/${id}` : account.source);
      if (!row) continue;
      moved ||= row.className !== (classes[account.condition] || "");
      renew(row, account);
    }
    const sessions = new Map([...document.querySelectorAll("[data-session]")].map((row) => [row.dataset.session, row]));
    // A page that was opened before there was any has no rows yet.
    moved ||= sessions.size === 0 && state.sessions.length > 0 && document.getElementById("sessions") !== null;
    for (const session of state.sessions) {
      const row = sessions.get(session.source);
      if (!row) continue;
      moved ||= Boolean(session.last_error) !== row.classList.contains("bad");
      row.querySelector('[data-f="expires"]').dataset.until = session.expires || "";
      row.querySelector('[data-f="renewal"]').dataset.until = session.next_renewal || "";
      const left = row.querySelector("[data-left]");
      if (left) {
        left.dataset.left = session.expires || "";
        if (session.obtained && session.expires) left.max = (Date.parse(session.expires) - Date.parse(session.obtained)) / 1000;
      }
      put(row, "renewals", String(session.renewals));
      put(row, "failures", String(session.failures));
    }
    if (moved) redraw = Math.min(redraw, Date.now() + SOON_MS);
  };

  // Parts that the server draws are taken from a fresh page; one that somebody is in is left alone until they leave.
  const isInUse = (part) => {
    const selection = document.getSelection();
    return part.contains(document.activeElement) || (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
  };
  const draw = async () => {
    redraw = Date.now() + REDRAW_MS;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const other = fresh.getElementById(part.id);
        if (!other || other.innerHTML === part.innerHTML) continue;
        if (isInUse(part)) { redraw = Math.min(redraw, Date.now() + BEAT_MS); continue; }
        const scrolled = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
        part.replaceWith(document.adoptNode(other));
        [...other.querySelectorAll(".scroll")].forEach((box, i) => { box.scrollLeft = scrolled[i] || 0; });
      }
      const brand = fresh.querySelector(".brand");
      if (brand && !isInUse(document.querySelector(".brand"))) document.querySelector(".brand").innerHTML = brand.innerHTML;
      rove();
      tick();
    } catch { /* the age tells */ }
  };

  // The whole state has the fields of an event under other names.
  const short = (state) => ({
    ...state,
    alarms: state.alarm_counts.filter((one) => !["unknown_folder", "undiscovered", "nothing_there"].includes(one.kind)).reduce((sum, one) => sum + one.count, 0),
    accounts: state.accounts.map((account) => ({
      ...account,
      lag_from: account.lag_seconds === null ? null : new Date(Date.parse(state.at) - 1000 * account.lag_seconds).toISOString(),
      requests: Object.values(account.list_requests).reduce((a, b) => a + b, 0) + account.get_requests,
      failing_hops: account.health.filter((one) => one.state === "failing").map((one) => one.hop),
    })),
  });

  const poll = async () => {
    try {
      const answer = await fetch("/api/status", { headers: { Accept: "application/json" } });
      if (answer.ok) take(short(await answer.json()));
    } catch { /* the age tells */ }
  };

  const listen = () => {
    const line = new EventSource("/api/events");
    line.addEventListener("status", (event) => take(JSON.parse(event.data)));
    line.addEventListener("beat", (event) => tell(event.data));
    line.addEventListener("alarm", () => { redraw = Math.min(redraw, Date.now() + SOON_MS); });
    // One that was refused closes for good: then ask, and try to listen again later.
    line.addEventListener("error", () => {
      if (line.readyState === EventSource.CLOSED) setTimeout(listen, BEAT_MS);
    });
    addEventListener("pagehide", () => line.close(), { once: true });
  };

  // A calendar is one stop of the Tab key; arrows go from day to day.
  const rove = () => {
    for (const calendar of document.querySelectorAll(".calendar, .months")) {
      const days = [...calendar.querySelectorAll("a")];
      days.forEach((day, i) => { day.tabIndex = i === days.length - 1 ? 0 : -1; });
    }
  };
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -7, ArrowDown: 7, Home: -Infinity, End: Infinity };
  document.addEventListener("keydown", (event) => {
    const calendar = event.target.closest?.(".calendar, .months");
    if (!calendar || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    const days = [...calendar.querySelectorAll("a")].sort((a, b) => (a.title < b.title ? -1 : 1));
    const to = Math.max(0, Math.min(days.length - 1, days.indexOf(event.target) + steps[event.key]));
    event.target.tabIndex = -1;
    days[to].tabIndex = 0;
    days[to].focus();
    event.preventDefault();
  });

  const tick = () => {
    const silent = Date.now() - heard;
    byId("live").textContent = silent < 2 * BEAT_MS ? "(live)" : `(nothing heard for ${age(silent / 1000)})`;
    byId("live").parentElement.classList.toggle("stale", silent >= 2 * BEAT_MS);
    const now = Date.now() + ahead;
    for (const cell of document.querySelectorAll("[data-from]")) {
      if (cell.dataset.from) cell.textContent = age((now - Date.parse(cell.dataset.from)) / 1000);
    }
    for (const cell of document.querySelectorAll("[data-until]")) {
      if (!cell.dataset.until) continue;
      const seconds = (Date.parse(cell.dataset.until) - now) / 1000;
      cell.textContent = seconds > 0 ? `in ${age(seconds)}` : `${age(-seconds)} ago`;
    }
    for (const meter of document.querySelectorAll("[data-left]")) {
      if (meter.dataset.left) meter.value = Math.max(0, (Date.parse(meter.dataset.left) - now) / 1000);
    }
  };

  setInterval(() => {
    tick();
    const silent = Date.now() - heard >= 2 * BEAT_MS;
    if (silent && Date.now() - polled >= BEAT_MS) { polled = Date.now(); poll(); }
    if (!silent && !document.hidden && Date.now() >= redraw) draw();
  }, 1000);
  rove();
  listen();
})();
