// The upload box works without this file: here it gains drag and drop, a progress bar
// and the result in place.
"use strict";

const form = document.getElementById("upload");
const input = document.getElementById("file");
const button = form.querySelector("button");
const progress = document.getElementById("progress");
const message = document.getElementById("message");
const uploaded = document.getElementById("uploaded");
const limit = Number(form.dataset.limit); // bytes

// Send the chosen file; XMLHttpRequest, as fetch does not tell the progress of an upload.
function send() {
  message.textContent = "";
  uploaded.hidden = true;
  if (input.files[0].size > limit) {
    message.textContent = `This file is too large: it may have up to ${limit / 1e6} MB.`;
    return;
  }
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  request.upload.onprogress = (event) => {
    progress.value = event.loaded / event.total;
  };
  request.onloadend = () => {
    button.disabled = false;
    progress.hidden = true;
    show(request.status, request.response);
  };
  button.disabled = true;
  progress.value = 0;
  progress.hidden = false;
  request.send(new FormData(form));
}

// Show the server's answer; it is null when it was not JSON, the status 0 without one.
function show(status, answer) {
  if (status === 200 && answer) {
    for (const key of ["name", "size", "sha256"]) {
      document.getElementById(key).textContent = answer[key];
    }
    uploaded.hidden = false;
  } else {
    message.textContent =
      answer?.message ?? (status ? `The server answered ${status}.` : "The server did not answer.");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});

for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  form.addEventListener(type, (event) => {
    event.preventDefault();
    form.classList.toggle("over", type === "dragenter" || type === "dragover");
  });
}

form.addEventListener("drop", (event) => {
  if (!button.disabled && event.dataTransfer.files.length > 0) {
    input.files = event.dataTransfer.files;
    send();
  }
});
