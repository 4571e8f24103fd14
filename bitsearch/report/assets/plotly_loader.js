"use strict";
// Unpacks plotly, which only comes whole: compressed, it takes two fifths of its size in the file.
const unpacked = async (base64) => {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
};
const loadPlotly = async () => {
  const packed = document.getElementById("plotly");
  document.head.append(Object.assign(document.createElement("script"), { textContent: await unpacked(packed.textContent) }));
  packed.remove();
};
