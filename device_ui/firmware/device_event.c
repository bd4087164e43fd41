/* See device_event.h. With -DDEVICE_EVENT_MAIN this file is also a program: device-event CODE [TEXT [SOURCE]] */

#define _GNU_SOURCE
#include "device_event.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Characters to send: one more than the hook stores of the longest text, so that it marks the cut. */
#define TEXT_SENT 10001
#define SOURCE_SENT 101

/* A connection with the bytes that are still to be sent: a request may be 60 KB long, and a thread's stack small. */
struct line {
    int fd;
    long long deadline;
    int failed;
    size_t length;
    char bytes[1024];
};

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Wait until `fd` can be read or written; 0 when the time is over. */
static int ready(int fd, short events, long long deadline)
{
    struct pollfd waiting = {.fd = fd, .events = events};
    long long left;
    int found;

    do {
        left = deadline - now_ms();
        found = left > 0 ? poll(&waiting, 1, (int)left) : 0;
    } while (found < 0 && errno == EINTR);
    return found > 0;
}

static void flush(struct line *line)
{
    size_t sent = 0;

    while (sent < line->length && !line->failed) {
        ssize_t n = -1;
        if (ready(line->fd, POLLOUT, line->deadline))
            n = send(line->fd, line->bytes + sent, line->length - sent, MSG_NOSIGNAL);
        if (n < 0)
            line->failed = 1;
        else
            sent += (size_t)n;
    }
    line->length = 0;
}

static void append(struct line *line, const char *bytes, size_t length)
{
    if (length > sizeof line->bytes - line->length)
        flush(line);
    memcpy(line->bytes + line->length, bytes, length);
    line->length += length;
}

/* The bytes of the character at `text`, 1 to 4; of what is no UTF-8 (RFC 3629), 1. */
static size_t character(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    size_t length = c[0] < 0xC2 ? 1 : c[0] < 0xE0 ? 2 : c[0] < 0xF0 ? 3 : c[0] < 0xF5 ? 4 : 1;
    size_t i;

    for (i = 1; i < length; i++)
        if ((c[i] & 0xC0) != 0x80) /* the end of the text, too */
            return 1;
    return length;
}

/* Append at most `maximum` characters of `text` as a JSON string. A text that is too long is cut: it must never be a reason
   to lose an alarm. */
static void quoted(struct line *line, const char *text, size_t maximum)
{
    char escape[8];
    size_t length;

    append(line, "\"", 1);
    for (; *text && maximum > 0; text += length, maximum--) {
        unsigned char c = (unsigned char)*text;
        length = character(text);
        if (c == '"' || c == '\\')
            append(line, "\\", 1);
        if (c < 0x20)
            append(line, escape, (size_t)sprintf(escape, "\\u%04x", c));
        else
            append(line, text, length);
    }
    append(line, "\"", 1);
}

/* Send the request; 0 when the hook did not take all of it. */
static int requested(int fd, long long deadline, const char *code, const char *text, const char *source)
{
    struct line line = {.fd = fd, .deadline = deadline};
    static const char head[] = "{\"do\": \"event\", \"code\": ", middle[] = ", \"text\": ", tail[] = ", \"source\": ";

    append(&line, head, sizeof head - 1);
    quoted(&line, code, 3);
    append(&line, middle, sizeof middle - 1);
    quoted(&line, text ? text : "", TEXT_SENT);
    append(&line, tail, sizeof tail - 1);
    quoted(&line, source ? source : "", SOURCE_SENT);
    append(&line, "}\n", 2);
    flush(&line);
    return !line.failed;
}

static int connected(long long deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *folder = getenv("DEVICE_UI_RUN");
    int fd, length;

    length = snprintf(address.sun_path, sizeof address.sun_path, "%s/hook.sock", folder && *folder ? folder : "/run/device-ui");
    if (length < 0 || (size_t)length >= sizeof address.sun_path)
        return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    while (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && now_ms() < deadline) {
            (void)poll(NULL, 0, 10); /* the hook has too many callers right now */
            continue;
        }
        close(fd);
        return -1;
    }
    return fd;
}

/* The number of {"accepted": 1742}, or the code of {"error": "WORD", …}. */
static long understood(const char *answer)
{
    long number;

    if (sscanf(answer, "{\"accepted\": %ld}", &number) == 1 && number > 0)
        return number;
    if (strstr(answer, "\"error\": \"denied\""))
        return DEVICE_EVENT_DENIED;
    if (strstr(answer, "\"error\": \"not-stored\""))
        return DEVICE_EVENT_STORAGE;
    return strstr(answer, "\"error\": \"bad-request\"") ? DEVICE_EVENT_BAD : DEVICE_EVENT_DOWN;
}

static long answered(int fd, long long deadline)
{
    char answer[512] = "";
    size_t got = 0;

    while (!strchr(answer, '\n') && got < sizeof answer - 1) {
        ssize_t n = ready(fd, POLLIN, deadline) ? recv(fd, answer + got, sizeof answer - 1 - got, 0) : -1;
        if (n <= 0)
            return DEVICE_EVENT_DOWN;
        got += (size_t)n;
        answer[got] = '\0';
    }
    return understood(answer);
}

long device_event(const char *code, const char *text, const char *source)
{
    long long deadline = now_ms() + DEVICE_EVENT_TIMEOUT_MS;
    long result = DEVICE_EVENT_DOWN;
    int fd;

    if (!code || strlen(code) != 3 || strspn(code, "0123456789") != 3)
        return DEVICE_EVENT_BAD;
    fd = connected(deadline);
    if (fd < 0)
        return result;
    if (requested(fd, deadline, code, text, source))
        result = answered(fd, deadline);
    close(fd);
    return result;
}

#ifdef DEVICE_EVENT_MAIN
static const struct {
    long result;
    int exit;
    const char *reason;
} failures[] = {
    {DEVICE_EVENT_DOWN, 75, "the mail hook does not answer"},
    {DEVICE_EVENT_STORAGE, 75, "the flash did not take the event"},
    {DEVICE_EVENT_BAD, 65, "a code has three digits"},
    {DEVICE_EVENT_DENIED, 77, "this user may not raise events"},
};

int main(int argc, char **argv)
{
    long number;
    size_t i;

    if (argc < 2 || argc > 4) {
        fputs("usage: device-event CODE [TEXT [SOURCE]]\n", stderr);
        return 64;
    }
    number = device_event(argv[1], argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL);
    if (number > 0)
        return printf("accepted %ld\n", number) < 0 || fflush(stdout) != 0 ? 74 : 0;
    for (i = 0; i < sizeof failures / sizeof *failures; i++)
        if (failures[i].result == number)
            fprintf(stderr, "device-event: %s\n", failures[i].reason);
    for (i = 0; i < sizeof failures / sizeof *failures; i++)
        if (failures[i].result == number)
            return failures[i].exit;
    return 70;
}
#endif
