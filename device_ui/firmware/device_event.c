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

#define TEXT_MAXIMUM 4000
#define SOURCE_MAXIMUM 100
/* Every byte of a text may become the six of \u00XX. */
#define LINE_MAXIMUM (6 * (TEXT_MAXIMUM + SOURCE_MAXIMUM) + 128)

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

/* Append at most `maximum` bytes of `text` to `line` as a JSON string; the new end. A text that is too long is cut: it
   must never be a reason to lose an alarm. */
static char *quoted(char *line, const char *text, size_t maximum)
{
    *line++ = '"';
    for (; *text && maximum > 0; text++, maximum--) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            *line++ = '\\';
            *line++ = (char)c;
        } else if (c < 0x20) {
            line += sprintf(line, "\\u%04x", c);
        } else {
            *line++ = (char)c;
        }
    }
    *line++ = '"';
    return line;
}

static size_t request(char *line, const char *code, const char *text, const char *source)
{
    char *end = line;

    end += sprintf(end, "{\"do\": \"event\", \"code\": \"%s\", \"text\": ", code);
    end = quoted(end, text ? text : "", TEXT_MAXIMUM);
    end += sprintf(end, ", \"source\": ");
    end = quoted(end, source ? source : "", SOURCE_MAXIMUM);
    end += sprintf(end, "}\n");
    return (size_t)(end - line);
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

static int sent(int fd, const char *line, size_t length, long long deadline)
{
    while (length > 0) {
        ssize_t n = ready(fd, POLLOUT, deadline) ? send(fd, line, length, MSG_NOSIGNAL) : -1;
        if (n < 0)
            return 0;
        line += n;
        length -= (size_t)n;
    }
    return 1;
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
    char line[LINE_MAXIMUM];
    long long deadline = now_ms() + DEVICE_EVENT_TIMEOUT_MS;
    long result = DEVICE_EVENT_DOWN;
    int fd;

    if (!code || strlen(code) != 3 || strspn(code, "0123456789") != 3)
        return DEVICE_EVENT_BAD;
    fd = connected(deadline);
    if (fd < 0)
        return result;
    if (sent(fd, line, request(line, code, text, source), deadline))
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
