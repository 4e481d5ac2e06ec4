'use strict';
// Puts the numbers in anew, and the page as a whole where more than numbers have changed.
const root = document.documentElement;
let looks = 0;
async function look() {
  try {
    const told = await (await fetch('page.json', { cache: 'no-store' })).json();
    const main = document.querySelector('main');
    if (told.shape === main.dataset.shape) {
      told.cells.forEach((text, at) => {
        const cell = document.getElementById('c' + at);
        if (cell.textContent !== text) cell.textContent = text;
      });
    } else {
      const page = await (await fetch('./', { cache: 'no-store' })).text();
      main.replaceWith(new DOMParser().parseFromString(page, 'text/html').querySelector('main'));
    }
    root.classList.remove('away');
    root.dataset.looks = ++looks;
  } catch {
    root.classList.add('away');
  }
  setTimeout(look, document.hidden ? 10000 : 1000);
}
document.addEventListener('click', async (event) => {
  const { act, endpoint } = event.target.dataset;
  if (!act) return;
  if (act === 'drain' && !confirm('Drain ' + endpoint + '?')) return;
  event.target.disabled = true;
  const where = 'endpoints/' + encodeURIComponent(endpoint) + '/' + act;
  const told = await fetch(where, { method: 'POST', headers: { 'x-ringplane': '1' } });
  if (!told.ok) {
    event.target.disabled = false;
    alert(await told.text());
  }
});
setTimeout(look, 1000);
