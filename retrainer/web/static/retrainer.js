"use strict";
// The pages are complete without this file. It adds what a server cannot: details under the pointer, and live updates.
