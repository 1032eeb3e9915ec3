/* LD_PRELOAD: makes every fsync and fdatasync take ROUNDLOT_SYNC_US microseconds and do nothing, so that runs on a memory disk
   compare. Without that variable they sync. Counts both in the file that ROUNDLOT_SYNC_COUNT names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static uint64_t *count;
static long pause_us = -1;

__attribute__((constructor)) static void start(void) {
    char *us = getenv("ROUNDLOT_SYNC_US"), *path = getenv("ROUNDLOT_SYNC_COUNT");
    if (us) pause_us = atol(us);
    int fd = path ? open(path, O_RDWR | O_CREAT, 0600) : -1;
    if (fd < 0 || ftruncate(fd, sizeof *count)) return;
    void *map = mmap(0, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) count = map;
    close(fd);
}

static int synced(const char *name, int fd) {
    if (count) __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
    if (pause_us < 0) return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
    /* Sleeps are otherwise up to 50 us longer. */
    prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
    struct timespec pause = {pause_us / 1000000, pause_us % 1000000 * 1000};
    nanosleep(&pause, 0);
    return 0;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
