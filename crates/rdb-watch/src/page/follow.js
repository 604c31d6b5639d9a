// Keeps the page as the node is: asks for it again, and changes what has changed, so that what is marked, opened or scrolled to stays.
// While the daemon does not answer it says so, and leaves what was known last.
'use strict';
(() => {
  const EVERY_MS = 1000, HIDDEN_MS = 10000, PATIENCE_MS = 10000, SILENCE_MS = 3000;
  const gone = document.getElementById('gone');
  let heard = Date.now();
  // What the reader has opened or closed, by its id.
  const chosen = new Map();
  document.addEventListener('click', event => {
    const summary = event.target.closest('summary');
    if (summary) chosen.set(summary.parentNode.id, !summary.parentNode.open);
  });

  function patch(old, now) {
    if (old.nodeName !== now.nodeName || old.id !== now.id) {
      old.replaceWith(document.importNode(now, true));
      return;
    }
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== now.data) old.data = now.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!now.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const had = [...old.childNodes], has = [...now.childNodes];
    has.forEach((child, at) => at < had.length ? patch(had[at], child) : old.append(document.importNode(child, true)));
    had.slice(has.length).forEach(child => child.remove());
  }

  function take(html) {
    const next = new DOMParser().parseFromString(html, 'text/html');
    const main = next.querySelector('main');
    if (!main) throw new Error('this is no page of rdb');
    for (const part of main.querySelectorAll('details')) if (chosen.has(part.id)) part.open = chosen.get(part.id);
    patch(document.querySelector('main'), main);
    patch(document.querySelector('footer'), next.querySelector('footer'));
    document.title = next.title;
    patch(document.querySelector('link[rel=icon]'), next.querySelector('link[rel=icon]'));
  }

  function tell(isGone) {
    gone.hidden = !isGone;
    document.body.classList.toggle('old', isGone);
    const text = isGone ? `rdbd has not been heard of since ${new Date(heard).toLocaleTimeString()}. What is below was so then.` : '';
    if (gone.textContent !== text) gone.textContent = text;
  }

  async function look() {
    try {
      const answer = await fetch('/', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      take(await answer.text());
      heard = Date.now();
      tell(false);
    } catch {
      tell(Date.now() - heard > SILENCE_MS);
    }
    setTimeout(look, document.hidden ? HIDDEN_MS : EVERY_MS);
  }
  setTimeout(look, EVERY_MS);
})();
