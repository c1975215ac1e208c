// A clock that can be set: loaded before the C library (LD_PRELOAD), it adds to the time
// of day the nanoseconds that stand in the file named by CLOCK_OFFSET. Whoever writes
// there steps the clock of all processes that have it, and of no others.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const long long second = 1000000000;
static volatile long long *offset;

__attribute__((constructor)) static void find(void) {
	const char *path = getenv("CLOCK_OFFSET");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0) {
		_exit(97);
	}
	void *page = mmap(0, sizeof(long long), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED) {
		_exit(98);
	}
	offset = page;
}

int clock_gettime(clockid_t clock, struct timespec *ts) {
	int failed = syscall(SYS_clock_gettime, clock, ts);
	if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		long long now = ts->tv_sec * second + ts->tv_nsec + *offset;
		ts->tv_sec = now / second;
		ts->tv_nsec = now % second;
	}
	return failed;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
	struct timespec ts;
	int failed = clock_gettime(CLOCK_REALTIME, &ts);
	(void)zone;
	if (!failed) {
		tv->tv_sec = ts.tv_sec;
		tv->tv_usec = ts.tv_nsec / 1000;
	}
	return failed;
}

time_t time(time_t *to) {
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (to) {
		*to = ts.tv_sec;
	}
	return ts.tv_sec;
}
