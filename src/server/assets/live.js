// Keeps an open page true: takes what the daemon sends, and says how old it is when nothing comes.
"use strict";
(() => {
  const BEAT_MS = 15000;
  const byId = (id) => document.getElementById(id);
  const shapes = { current: "●", "catching_up": "◐", "new": "◐", unknown: "▲", late: "▲", failing: "✖" };
  const classes = { current: "good", "catching_up": "busy", "new": "busy", unknown: "warn", late: "warn", failing: "bad" };
  let heard = Date.now();
  let ahead = 0;
  let alarms = null;
  let polled = 0;

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
  const proofs = { unavailable: "unavailable", ended: "ended", proven: "proven", waiting: "waiting", held: "held back" };
  const proven = (row) => {
    if (!row.proven_through) return proofs[row.proof] || row.proof;
    return when(row.proven_through) + (row.proof === "proven" ? "" : ` (${proofs[row.proof] || row.proof})`);
  };
  // Since when the lag of each account counts: it grows without being told.
  const lags = new Map();

  const renew = (row, account) => {
    row.className = classes[account.condition] || "";
    const shape = row.querySelector(".shape");
    if (shape) shape.textContent = shapes[account.condition] || "";
    put(row, "word", account.condition.replace("_", " "));
    put(row, "listed", when(account.listed_through));
    put(row, "proven", proven(account));
    row.querySelector('[data-f="proven"]')?.classList.toggle("held", account.proof === "held");
    put(row, "newest", when(account.newest_object));
    put(row, "objects", String(account.objects));
    put(row, "bytes", bytes(account.bytes));
    put(row, "failing", String(account.failing));
    put(row, "quarantined", String(account.quarantined));
    put(row, "requests", String(account.requests));
    if (account.lag_from) lags.set(row, Date.parse(account.lag_from)); else lags.delete(row);
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
    let changed = alarms !== null && alarms !== state.alarms;
    alarms = state.alarms;
    for (const account of state.accounts) {
      const id = (account.organization ? `${account.organization}:` : "") + account.account;
      const row = rows.get(id ? `${account.source}/${id}` : account.source);
      if (!row) continue;
      changed ||= row.className !== (classes[account.condition] || "");
      renew(row, account);
    }
    const sessions = new Map([...document.querySelectorAll("[data-session]")].map((row) => [row.dataset.session, row]));
    for (const session of state.sessions) {
      const row = sessions.get(session.source);
      if (!row) continue;
      row.querySelector('[data-f="expires"]').dataset.until = session.expires || "";
      row.querySelector('[data-f="renewal"]').dataset.until = session.next_renewal || "";
      put(row, "renewals", String(session.renewals));
      put(row, "failures", String(session.failures));
    }
    if (changed) byId("changed").hidden = false;
  };

  // The whole state has the fields of an event under other names.
  const short = (state) => ({
    ...state,
    alarms,
    accounts: state.accounts.map((account) => ({
      ...account,
      lag_from: account.lag_seconds === null ? null : new Date(Date.parse(state.at) - 1000 * account.lag_seconds).toISOString(),
      requests: Object.values(account.list_requests).reduce((a, b) => a + b, 0) + account.get_requests,
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
    // One that was refused closes for good: then ask, and try to listen again later.
    line.addEventListener("error", () => {
      if (line.readyState === EventSource.CLOSED) setTimeout(listen, BEAT_MS);
    });
  };

  setInterval(() => {
    const silent = Date.now() - heard;
    byId("live").textContent = silent < 2 * BEAT_MS ? "(live)" : `(nothing heard for ${age(silent / 1000)})`;
    byId("live").parentElement.classList.toggle("stale", silent >= 2 * BEAT_MS);
    if (silent >= 2 * BEAT_MS && Date.now() - polled >= BEAT_MS) { polled = Date.now(); poll(); }
    const now = Date.now() + ahead;
    for (const [row, from] of lags) put(row, "lag", age((now - from) / 1000));
    for (const cell of document.querySelectorAll("[data-until]")) {
      if (!cell.dataset.until) continue;
      const seconds = (Date.parse(cell.dataset.until) - now) / 1000;
      cell.textContent = seconds > 0 ? `in ${age(seconds)}` : `${age(-seconds)} ago`;
    }
  }, 1000);
  listen();
})();
