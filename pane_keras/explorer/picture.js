// A picture of places in rows and columns: shows a PNG, marks a place, tells which one is clicked or chosen by keys.

const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);

function element(parent, tag, name) {
  const made = document.createElement(tag);
  made.className = name;
  parent.appendChild(made);
  return made;
}

// Puts a box on one place, in shares of the picture, so that it stays there whatever the size on the screen.
function cover(box, model, place) {
  box.hidden = place.length !== 2;
  if (box.hidden) return;
  const [rows, columns] = [model.get("rows"), model.get("columns")];
  box.style.left = `${(100 * place[1]) / columns}%`;
  box.style.top = `${(100 * place[0]) / rows}%`;
  box.style.width = `${100 / columns}%`;
  box.style.height = `${100 / rows}%`;
}

function words(model, row, column) {
  const place = model.get("rows") > 1 ? `row ${row}, column ${column}` : `place ${column}`;
  const bytes = model.get("values");
  if (!bytes || !bytes.byteLength) return place;
  const value = bytes.getFloat64(8 * (row * model.get("columns") + column), true);
  return `${place}: ${Number(value.toPrecision(3))}${model.get("unit")}`;
}

function render({ model, el }) {
  const frame = element(el, "div", "pane-picture");
  const image = element(frame, "img", "pane-image");
  const marked = element(frame, "div", "pane-mark");
  const cursor = element(frame, "div", "pane-cursor");
  const hint = element(frame, "div", "pane-hint");
  let at = [];
  let url = null;

  function showImage() {
    const next = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
    image.src = next;
    if (url) URL.revokeObjectURL(url);
    url = next;
  }

  function showLook() {
    frame.style.width = `${model.get("width")}px`;
    frame.style.height = `${model.get("height")}px`;
    frame.classList.toggle("pane-busy", model.get("busy"));
    frame.classList.toggle("pane-clickable", model.get("clickable"));
    frame.classList.toggle("pane-smooth", model.get("smooth"));
    frame.tabIndex = model.get("clickable") ? 0 : -1;
    frame.setAttribute("role", model.get("clickable") ? "application" : "img");
    frame.setAttribute("aria-label", model.get("label"));
    image.alt = model.get("label");
    cover(marked, model, model.get("marked"));
  }

  function point(row, column) {
    at = [clamp(row, model.get("rows")), clamp(column, model.get("columns"))];
    cover(cursor, model, model.get("clickable") ? at : []);
    hint.textContent = words(model, ...at);
    hint.hidden = false;
  }

  // Under a pointer that rests, the next map has another value, and perhaps fewer places.
  function tellAgain() {
    if (at.length === 2) point(...at);
  }

  function leave() {
    at = [];
    cover(cursor, model, at);
    hint.hidden = true;
  }

  function follow(event) {
    const box = frame.getBoundingClientRect();
    const share = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
    point(Math.floor(share[0] * model.get("rows")), Math.floor(share[1] * model.get("columns")));
  }

  function choose() {
    if (at.length === 2 && model.get("clickable") && !model.get("busy")) model.send({ row: at[0], column: at[1] });
  }

  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  frame.addEventListener("pointermove", follow);
  frame.addEventListener("pointerleave", leave);
  frame.addEventListener("blur", leave);
  frame.addEventListener("click", (event) => {
    follow(event);
    choose();
  });
  frame.addEventListener("keydown", (event) => {
    if (event.key === "Enter") choose();
    if (!(event.key in steps)) return;
    event.preventDefault();
    const from = at.length ? at : model.get("marked").length ? model.get("marked") : [0, 0];
    point(from[0] + steps[event.key][0], from[1] + steps[event.key][1]);
  });

  // Handlers of other views of the same model stay when this one goes.
  const looks = ["width", "height", "rows", "columns", "marked", "busy", "clickable", "smooth", "label"];
  looks.forEach((name) => model.on(`change:${name}`, showLook));
  model.on("change:png", showImage);
  model.on("change:values", tellAgain);
  showLook();
  showImage();
  leave();
  return () => {
    looks.forEach((name) => model.off(`change:${name}`, showLook));
    model.off("change:png", showImage);
    model.off("change:values", tellAgain);
    URL.revokeObjectURL(url);
  };
}

export default { render };
