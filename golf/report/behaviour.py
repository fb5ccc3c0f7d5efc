"""The page's script: sorting, hover readouts, copying. The page is complete and readable without it.

With the hash `#selftest` the script sorts a table and hovers over a chart, and leaves what it saw in the attribute
`data-selftest` of the root element; the browser tests read it.
"""

SCRIPT = r"""
(() => {
'use strict';
const root = document.documentElement;
let errors = 0;
addEventListener('error', () => { root.dataset.errors = ++errors; });
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const data = JSON.parse(document.getElementById('data').textContent);

const cellOrder = (a, b, numeric) => {
  const [x, y] = [a.dataset.v, b.dataset.v];
  if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
  return numeric ? x - y : x.localeCompare(y, 'en', { numeric: true });
};
for (const table of all('table.sortable')) {
  const body = table.tBodies[0], original = [...body.rows];
  const heads = all('thead th', table);
  heads.forEach((head, column) => head.firstElementChild.addEventListener('click', () => {
    const next = { none: 'ascending', ascending: 'descending', descending: 'none' }[head.getAttribute('aria-sort')];
    heads.forEach(other => other.setAttribute('aria-sort', 'none'));
    head.setAttribute('aria-sort', next);
    const cells = original.map(row => row.cells[column]);
    const numeric = cells.every(cell => cell.dataset.v === undefined || isFinite(cell.dataset.v));
    const rows = [...original];
    if (next !== 'none') rows.sort((a, b) => {
      const [x, y] = [a.cells[column], b.cells[column]];
      const missing = (x.dataset.v === undefined) - (y.dataset.v === undefined);
      return missing || (next === 'ascending' ? 1 : -1) * cellOrder(x, y, numeric);
    });
    body.append(...rows);
  }));
}

const number = value => Math.abs(value) >= 1e4 ? Math.round(value).toLocaleString('en')
  : Math.abs(value) >= 1e-3 || value === 0 ? String(+value.toPrecision(5)) : value.toExponential(2);
const clock = s => s < 60 ? `${+s.toPrecision(3)} s`
  : s < 3600 ? `${Math.floor(s / 60)} min ${String(Math.floor(s % 60)).padStart(2, '0')} s`
  : `${Math.floor(s / 3600)} h ${String(Math.floor(s % 3600 / 60)).padStart(2, '0')} min`;
const nearest = (values, wanted) => {
  let low = 0, high = values.length - 1;
  while (high - low > 1) { const mid = (low + high) >> 1; if (values[mid] < wanted) low = mid; else high = mid; }
  return Math.abs(values[low] - wanted) <= Math.abs(values[high] - wanted) ? low : high;
};
for (const figure of all('figure[data-chart]')) {
  const { x: [x0, x1], y: [y0, y1], series } = data[figure.dataset.chart];
  const plot = figure.querySelector('.plot'), cross = figure.querySelector('.cross');
  const readout = figure.querySelector('.readout'), main = series[0];
  const dots = series.map(one => {
    const dot = document.createElement('i');
    dot.className = `here ${one.style}`;
    dot.hidden = true;
    plot.append(dot);
    return dot;
  });
  let current = main.steps.length - 1;
  const part = (name, text, style) => {
    const item = document.createElement('span');
    item.className = style || '';
    const value = document.createElement('b');
    value.textContent = text;
    item.append(`${name} `, value);
    return item;
  };
  const show = (index, hovering) => {
    current = index;
    const step = main.steps[index], parts = [part('step', step.toLocaleString('en'))];
    if (main.seconds[index] != null) parts.push(part('at', clock(main.seconds[index])));
    if (main.tokens[index] != null) parts.push(part('tokens', main.tokens[index].toLocaleString('en')));
    series.forEach((one, place) => {
      const at = nearest(one.steps, step), value = one.values[at];
      const where = one.steps[at] === step ? '' : ` (step ${one.steps[at].toLocaleString('en')})`;
      parts.push(part(one.name + where, number(value), `key ${one.style}`));
      dots[place].hidden = !hovering;
      dots[place].style.left = `${100 * (one.steps[at] - x0) / (x1 - x0)}%`;
      dots[place].style.top = `${100 * (1 - (Math.min(Math.max(value, y0), y1) - y0) / (y1 - y0))}%`;
    });
    readout.replaceChildren(...parts);
    cross.hidden = !hovering;
    cross.style.left = `${100 * (step - x0) / (x1 - x0)}%`;
  };
  const leave = () => show(main.steps.length - 1, false);
  plot.addEventListener('pointermove', event => {
    const box = plot.getBoundingClientRect();
    show(nearest(main.steps, x0 + (x1 - x0) * (event.clientX - box.left) / box.width), true);
  });
  plot.addEventListener('pointerleave', leave);
  plot.addEventListener('blur', leave);
  plot.addEventListener('keydown', event => {
    const stride = Math.max(1, Math.round(main.steps.length / 50)), last = main.steps.length - 1;
    const to = { ArrowLeft: current - stride, ArrowRight: current + stride, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(Math.min(last, Math.max(0, to)), true);
  });
  leave();
}

for (const input of all('input[data-filter]')) {
  const rows = all(`#${input.dataset.filter} tbody tr`), told = input.closest('p').querySelector('span');
  const texts = rows.map(row => row.textContent.toLowerCase());
  input.addEventListener('input', () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, place) => {
      row.hidden = !words.every(word => texts[place].includes(word));
      shown += !row.hidden;
    });
    told.textContent = words.length ? `${shown} of ${rows.length}` : '';
  });
}

for (const button of all('button.copy')) button.addEventListener('click', async () => {
  const text = button.parentElement.querySelector('pre');
  try { await navigator.clipboard.writeText(text.textContent); button.textContent = 'Copied'; }
  catch { getSelection().selectAllChildren(text); button.textContent = 'Selected'; }
  setTimeout(() => { button.textContent = 'Copy'; }, 2000);
});

if (location.hash === '#selftest') {
  const seen = { charts: all('figure[data-chart]').length, tables: all('table.sortable').length };
  const table = all('table.sortable').find(one => /^(ladder|run-list|entries)/.test(one.id));
  if (table) {
    const column = all('thead th', table).findIndex(head => /BPB$/.test(head.textContent));
    const values = () => all('tbody tr', table).map(row => row.cells[column].textContent);
    const button = table.tHead.rows[0].cells[column].firstElementChild;
    seen.before = values();
    button.click(); seen.ascending = values();
    button.click(); seen.descending = values();
    button.click(); seen.again = values();
    button.click();
  }
  const filter = document.querySelector('input[data-filter]');
  if (filter) {
    filter.value = 'demo SLIDING';
    filter.dispatchEvent(new Event('input'));
    seen.filtered = filter.closest('p').querySelector('span').textContent;
    seen.visible = all(`#${filter.dataset.filter} tbody tr`).filter(row => row.offsetHeight).length;
  }
  const plot = document.querySelector('.plot[tabindex]');
  if (plot) {
    const box = plot.getBoundingClientRect(), readout = plot.closest('figure').querySelector('.readout');
    seen.resting = readout.textContent;
    plot.dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + box.width / 2, clientY: box.top + 9 }));
    seen.hover = readout.textContent;
    seen.cross = !plot.querySelector('.cross').hidden;
  }
  seen.overflow = root.scrollWidth - root.clientWidth;
  seen.milliseconds = performance.now();
  root.dataset.selftest = JSON.stringify(seen);
}
root.dataset.ready = 'yes';
})();
"""
