/* A bad network between two UDP endpoints: a fixed delay, and random loss of datagrams.
 *
 *   relay NEAR_A A NEAR_B B PORT DELAY_MS LOSS SEED
 *
 * It listens on NEAR_A:PORT and NEAR_B:PORT. What A:PORT sends to NEAR_A leaves for B:PORT from
 * NEAR_B, and the other way round. LOSS is a probability; the same SEED loses the same datagrams.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, DATAGRAM = 2048, QUEUE = 1 << 16, NANOSECONDS = 1000000000 };

struct datagram {
  int64_t due;
  size_t length;
  char bytes[DATAGRAM];
};

/* One direction: datagrams wait in the order in which they came, so the first is due first. */
struct direction {
  int from, to;
  uint32_t first, next;
  struct datagram *queue;
};

static uint64_t random_state;

/* xorshift64*: fast, and good enough to lose datagrams by. Returns a number in [0, 1). */
static double draw(void) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (double)((random_state * 0x2545F4914F6CDD1DULL) >> 11) / (double)(1ULL << 53);
}

static int64_t clock_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * (int64_t)NANOSECONDS + now.tv_nsec;
}

static struct sockaddr_in address(const char *host, int port) {
  struct sockaddr_in result = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, host, &result.sin_addr) != 1) errx(2, "not an IPv4 address: %s", host);
  return result;
}

static int connected_socket(const char *near, const char *far, int port) {
  struct sockaddr_in local = address(near, port), remote = address(far, port);
  int buffer = 16 << 20, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  if (fd < 0) err(1, "socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
  if (bind(fd, (struct sockaddr *)&local, sizeof local)) err(1, "bind %s", near);
  if (connect(fd, (struct sockaddr *)&remote, sizeof remote)) err(1, "connect %s", far);
  return fd;
}

/* Takes what has arrived, as far as there is room. Returns the number of datagrams. */
static int take(struct direction *way, int64_t due, double loss) {
  struct mmsghdr messages[BATCH] = {0};
  struct iovec parts[BATCH];
  uint32_t room = QUEUE - (way->next - way->first);
  uint32_t wanted = room < BATCH ? room : BATCH;
  for (uint32_t i = 0; i < wanted; i++) {
    parts[i] = (struct iovec){way->queue[(way->next + i) % QUEUE].bytes, DATAGRAM};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  int count = wanted ? recvmmsg(way->from, messages, wanted, MSG_DONTWAIT, NULL) : 0;
  for (int i = 0; i < count; i++) {
    struct datagram *slot = &way->queue[way->next++ % QUEUE];
    slot->due = due;
    slot->length = draw() < loss ? 0 : messages[i].msg_len; /* 0: lost, once its time has come */
  }
  return count > 0 ? count : 0;
}

/* Sends what is due. Returns the number of datagrams that left the queue. */
static int pass(struct direction *way, int64_t now) {
  struct mmsghdr messages[BATCH] = {0};
  struct iovec parts[BATCH];
  int count = 0, left = 0;
  for (; left < BATCH && way->first != way->next; left++) {
    struct datagram *slot = &way->queue[way->first % QUEUE];
    if (slot->due > now) break;
    way->first++;
    if (!slot->length) continue;
    parts[count] = (struct iovec){slot->bytes, slot->length};
    messages[count].msg_hdr = (struct msghdr){.msg_iov = &parts[count], .msg_iovlen = 1};
    count++;
  }
  if (count) sendmmsg(way->to, messages, (unsigned)count, MSG_DONTWAIT);
  return left;
}

static int64_t soonest(const struct direction *way, int64_t otherwise) {
  if (way->first == way->next) return otherwise;
  int64_t due = way->queue[way->first % QUEUE].due;
  return due < otherwise ? due : otherwise;
}

int main(int argc, char **argv) {
  if (argc != 9) errx(2, "usage: relay NEAR_A A NEAR_B B PORT DELAY_MS LOSS SEED");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int port = atoi(argv[5]);
  int64_t delay = (int64_t)(atof(argv[6]) * 1e6);
  double loss = atof(argv[7]);
  random_state = strtoull(argv[8], NULL, 10) * 0x9E3779B97F4A7C15ULL | 1;

  int a = connected_socket(argv[1], argv[2], port), b = connected_socket(argv[3], argv[4], port);
  struct direction ways[2] = {{.from = a, .to = b}, {.from = b, .to = a}};
  for (int i = 0; i < 2; i++) {
    ways[i].queue = calloc(QUEUE, sizeof *ways[i].queue);
    if (!ways[i].queue) err(1, "calloc");
  }

  for (;;) {
    int64_t now = clock_now();
    int moved = 0;
    for (int i = 0; i < 2; i++) moved += take(&ways[i], now + delay, loss) + pass(&ways[i], now);
    if (moved) continue;
    int64_t wait = soonest(&ways[0], soonest(&ways[1], now + NANOSECONDS)) - now;
    struct timespec timeout = {wait / NANOSECONDS, wait % NANOSECONDS};
    struct pollfd arrivals[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
    if (wait > 0) ppoll(arrivals, 2, &timeout, NULL);
  }
}
