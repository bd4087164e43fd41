/* Raise an event at the appliance's mail hook. One file, no dependency but POSIX.

   The call returns as soon as the event is on flash; it never waits for the network. It blocks for at most
   DEVICE_EVENT_TIMEOUT_MS and is safe to call from several threads. */

#ifndef DEVICE_EVENT_H
#define DEVICE_EVENT_H

#ifdef __cplusplus
extern "C" {
#endif

/* Milliseconds that the hook has for its answer: a commit on slow flash may take one second, never ten. */
#define DEVICE_EVENT_TIMEOUT_MS 10000

/* What device_event returns when the event was not accepted; the program exits with the number behind it. */
#define DEVICE_EVENT_DOWN (-1)    /* 75: nobody answers; raise the event again later (see below) */
#define DEVICE_EVENT_STORAGE (-2) /* 75: the flash does not take it; raise the event again later */
#define DEVICE_EVENT_BAD (-3)     /* 65: the code is not three digits */
#define DEVICE_EVENT_DENIED (-4)  /* 77: this user is not in the group device-event */

/* DEVICE_EVENT_DOWN after a timeout or a connection that was lost does not say that the event was not accepted: the hook may
   have put it on flash and its answer may be lost. Raised again, it may be mailed twice; not raised again, it may be lost. */

/* Raise the event `code` (three digits) with `text` (UTF-8, NULL for none) from `source` (a short name, NULL for none). The
   hook stores 4,000 characters of the text (10,000 for code 901) and 100 of the source, and marks a cut. Returns its number, 1 or more, once it is on flash; else one of the above. The socket is hook.sock in the folder
   DEVICE_UI_RUN of the environment, else in /run/device-ui. */
long device_event(const char *code, const char *text, const char *source);

#ifdef __cplusplus
}
#endif

#endif
