/* Many WebSocket clients in one process, so that it is the server that is measured.

   load PORT CLIENTS [--path PATH] [--header LINE]... [--say TEXT]... [--live MARK] [--again TEXT] [--check]

   After its handshake a client says each TEXT, and is live when it hears MARK (or at once). It counts updates, which
   begin with {"type":"update", and their age, now minus "executed_at". What is compressed is counted and not read.
   With --check, for the protocol of docs/stream-protocol.md, it follows seq, prev and cursor; one that comes back says
   the TEXT of --again, "%s" being its last cursor.

   Commands on its input, each answered with a line of JSON:
     count          live, updates and bytes (of updates' payloads) since the last report
     report         the same, with p50_ms, p99_ms and max_ms of their age; the next begins here
     churn N S      from now on N clients a second leave, half without a word, and come back within S seconds
     ends O O ...   the next offset of each partition of the topic: total, lost, repeated, and why (see counting.c),
                    left and dropped (closed by the server, or refused) connections
   It ends with its input. */

#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { UNDER_WAY = 64, ADDRESSES = 16, EVENTS = 512, READ_BYTES = 1 << 17, MOST_SAID = 8 };

static struct client *clients;
static size_t *away; /* places in `clients` */
static size_t count, away_count, under_way, live;
static uint64_t left, lost_connections;
static double churn, longest_away_s, to_leave, churned_s;
static int poller, port;
static char headers[8192];
static const char *path = "/", *said[MOST_SAID], *again;
static size_t said_count;

double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void leave(struct client *client, double due_s) {
    if (client->state == LIVE)
        live--;
    else if (client->state != AWAY)
        under_way--;
    close(client->socket);
    free(client->part);
    client->part = NULL;
    client->part_bytes = 0;
    client->state = AWAY;
    client->due_s = due_s;
    away[away_count++] = (size_t)(client - clients);
}

void dropped(struct client *client, const char *why, size_t size) {
    if (lost_connections++ < 3) fprintf(stderr, "%.*s\n", (int)(size < 300 ? size : 300), why);
    leave(client, now_s() + 1);
}

void become_live(struct client *client) {
    client->state = LIVE;
    under_way--;
    live++;
}

void subscribe(struct client *client) {
    client->state = SUBSCRIBING;
    if (again && client->place.cursor[0]) {
        char text[4096];
        const char *mark = strstr(again, "%s");
        int size = snprintf(
            text, sizeof text, "%.*s%s%s", (int)(mark - again), again, client->place.cursor, mark + 2);
        say(client, 1, text, (size_t)size);
        become_live(client); /* no snapshot comes */
        return;
    }
    for (size_t each = 0; each < said_count; each++) say(client, 1, said[each], strlen(said[each]));
    if (live_mark == NULL) become_live(client);
}

static void come(struct client *client) {
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event events = {.events = EPOLLOUT, .data.ptr = client};
    int one = 1;
    /* Several addresses: one has 28,000 ports, and those of connections that ended are not free for a minute. */
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)((size_t)(client - clients) % ADDRESSES));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->socket < 0) fail("socket");
    setsockopt(client->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(client->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(client->socket, (struct sockaddr *)&from, sizeof from)) fail("bind");
    if (connect(client->socket, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) fail("connect");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, client->socket, &events)) fail("epoll_ctl");
    client->state = CONNECTING;
    under_way++;
}

static void shake(struct client *client) {
    struct epoll_event events = {.events = EPOLLIN, .data.ptr = client};
    char request[sizeof headers + 256];
    int size = snprintf(
        request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
        path, port, headers);
    client->state = SHAKING;
    if (send(client->socket, request, (size_t)size, MSG_NOSIGNAL) != size) {
        dropped(client, "not connected", 13);
        return;
    }
    if (epoll_ctl(poller, EPOLL_CTL_MOD, client->socket, &events)) fail("epoll_ctl");
}

static void serve(struct client *client) {
    static char bytes[READ_BYTES];
    if (client->state == AWAY) return; /* an event of before it left */
    if (client->state == CONNECTING) {
        shake(client);
        return;
    }
    ssize_t size = recv(client->socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (size > 0)
        heard(client, bytes, (size_t)size);
    else if (size == 0 || (errno != EAGAIN && errno != EINTR))
        dropped(client, "the connection ended", 20);
}

static void send_away(struct client *client) {
    static const char GOING[] = {0x03, (char)0xe9}; /* 1001 */
    struct linger at_once = {.l_onoff = 1};
    if (left++ % 2)
        say(client, 8, GOING, sizeof GOING);
    else
        setsockopt(client->socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    leave(client, now_s() + longest_away_s * (double)random() / (double)RAND_MAX);
}

static void move(double at_s) {
    to_leave += churn * (at_s - churned_s);
    churned_s = at_s;
    for (; to_leave >= 1; to_leave--) {
        struct client *client = &clients[(size_t)random() % count];
        if (client->state == LIVE) send_away(client);
    }
    for (size_t each = away_count; each-- > 0 && under_way < UNDER_WAY;) {
        struct client *client = &clients[away[each]];
        if (client->due_s > at_s) continue;
        away[each] = away[--away_count];
        come(client);
    }
}

static void obey(char *line) {
    int64_t ends[PARTITIONS];
    size_t partitions = 0;
    char *word = strtok(line, " \n");
    if (word == NULL) return;
    if (strcmp(word, "count") == 0 || strcmp(word, "report") == 0) {
        report(word[0] == 'r', live);
    } else if (strcmp(word, "churn") == 0) {
        char *rate = strtok(NULL, " \n"), *longest_s = strtok(NULL, " \n");
        churn = rate ? atof(rate) : 0;
        longest_away_s = longest_s ? atof(longest_s) : 0;
        printf("{\"churn\":%g}\n", churn);
    } else if (strcmp(word, "ends") == 0) {
        while ((word = strtok(NULL, " \n")) && partitions < PARTITIONS) ends[partitions++] = atoll(word);
        check_ends(clients, count, ends, partitions);
        printf(",\"left\":%" PRIu64 ",\"dropped\":%" PRIu64 "}\n", left, lost_connections);
    } else {
        printf("{\"unknown\":true}\n");
    }
    fflush(stdout);
}

static void read_options(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "load PORT CLIENTS [OPTIONS]: see the top of load.c\n");
        exit(2);
    }
    port = atoi(argv[1]);
    count = (size_t)atoll(argv[2]);
    for (int each = 3; each < argc; each++) {
        const char *option = argv[each];
        if (strcmp(option, "--check") == 0) {
            checks = true;
            continue;
        }
        if (++each == argc) exit(2);
        if (strcmp(option, "--header") == 0) {
            size_t used = strlen(headers);
            snprintf(headers + used, sizeof headers - used, "%s\r\n", argv[each]);
        } else if (strcmp(option, "--path") == 0) {
            path = argv[each];
        } else if (strcmp(option, "--say") == 0 && said_count < MOST_SAID) {
            said[said_count++] = argv[each];
        } else if (strcmp(option, "--live") == 0) {
            live_mark = argv[each];
        } else if (strcmp(option, "--again") == 0 && strstr(argv[each], "%s")) {
            again = argv[each];
        } else {
            exit(2);
        }
    }
}

int main(int argc, char **argv) {
    static char input[4096];
    struct epoll_event events[EVENTS], of_input = {.events = EPOLLIN, .data.ptr = NULL};
    read_options(argc, argv);
    clients = calloc(count, sizeof *clients);
    away = calloc(count, sizeof *away);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (clients == NULL || away == NULL || poller < 0) fail("no memory");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &of_input)) fail("epoll_ctl");
    for (; away_count < count; away_count++) {
        away[away_count] = away_count;
        begin(&clients[away_count].place);
    }
    churned_s = now_s();
    for (;;) {
        int found = epoll_wait(poller, events, EVENTS, 10);
        if (found < 0 && errno != EINTR) fail("epoll_wait");
        for (int each = 0; each < found; each++) {
            if (events[each].data.ptr) {
                serve(events[each].data.ptr);
            } else {
                ssize_t size = read(STDIN_FILENO, input, sizeof input - 1); /* one command at a time */
                if (size <= 0) return 0;
                input[size] = 0;
                obey(input);
            }
        }
        move(now_s());
    }
}
