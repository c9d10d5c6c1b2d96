// Sets the figures of the drawings: id → [level, state, text].
window.lab = {
  show(updates) {
    for (const [id, [level, state, text]] of Object.entries(updates)) {
      const part = document.getElementById(id);
      if (!part) continue;
      if (level !== null) part.style.setProperty("--level", level);
      part.setAttribute("class", "part " + state);
      if (text !== null) document.getElementById(id + "-text").textContent = text;
    }
  },
};
