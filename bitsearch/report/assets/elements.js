// Elements of the page: names from files only ever become text.
const byId = (id) => document.getElementById(id);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const readIsland = (id) => JSON.parse(byId(id).textContent);
const makeElement = (tag, properties = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};
const download = (text, name, type) => {
  const href = URL.createObjectURL(new Blob([text], { type }));
  makeElement("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
};
