/* A preloaded library that records what a process does to the files in folders whose names end in ".power": each write with its
 * data, each sync, truncation, creation and removal, in order. The record is the file "record" in that folder:
 *
 *   kind (1 byte), inode (8), offset or size (8), length of what follows (4), data or name
 *
 *   C name created    O name opened    U name removed    W write    T truncation
 *   S sync            F failed sync    D sync of the folder
 *
 * A write to the file "control" in such a folder is a command: "full AT COUNT" and "short AT COUNT" let COUNT writes fail from the
 * write of number AT on, "eio AT COUNT" lets syncs fail, "end" forgets the folder. Writes to "journal" never fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FOLDERS = 64, FILES = 4096 };
enum kind { NONE, FILE_OF, JOURNAL, CONTROL, FOLDER };
enum fault { FULL, SHORT, EIO_OF_SYNC };

struct folder {
    char path[PATH_MAX];
    int record;
    enum fault fault;
    /* Writes or syncs so far, the first that fails, and how many do. */
    long writes, syncs, at, count;
};

static struct folder folders[FOLDERS];
static struct { enum kind kind; int folder; uint64_t inode; } files[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *why) {
    fprintf(stderr, "the shim does not know what to do: %s\n", why);
    abort();
}

static void put(int folder, char kind, uint64_t inode, uint64_t offset, const void *data, uint32_t length) {
    char head[21];
    head[0] = kind;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &length, 4);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)data, length}};
    if (syscall(SYS_writev, folders[folder].record, parts, 2) != (long)(sizeof head + length))
        die("the record can't be written");
}

/* Returns the folder of a path that is recorded, or -1. `name` is set to the rest of the path. */
static int folder_of(const char *path, const char **name, int make) {
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length < 6 || length >= PATH_MAX || strncmp(slash - 6, ".power", 6) != 0) return -1;
    *name = slash + 1;
    int unused = -1;
    for (int i = 0; i < FOLDERS; i++) {
        if (!folders[i].path[0]) unused = i;
        else if (strlen(folders[i].path) == length && !strncmp(folders[i].path, path, length)) return i;
    }
    if (!make) return -1;
    if (unused < 0) die("too many folders");
    struct folder *new = &folders[unused];
    memset(new, 0, sizeof *new);
    memcpy(new->path, path, length);
    char record[PATH_MAX + 8];
    snprintf(record, sizeof record, "%s/record", new->path);
    new->record = syscall(SYS_openat, AT_FDCWD, record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (new->record < 0) die("the record can't be opened");
    return unused;
}

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), of_end = strlen(end);
    return length >= of_end && !strcmp(text + length - of_end, end);
}

static int open_file(const char *path, int flags, mode_t mode) {
    pthread_mutex_lock(&lock);
    const char *name = "";
    int is_folder = ends_with(path, ".power");
    char inside[PATH_MAX + 4];
    if (is_folder) snprintf(inside, sizeof inside, "%s/.", path);
    int folder = folder_of(is_folder ? inside : path, &name, !is_folder);
    int is_ignored = ends_with(name, "-shm") || ends_with(name, "-lock") || !strcmp(name, "record");
    int is_new = folder >= 0 && !is_folder && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0;
    int file = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (file >= 0 && folder >= 0 && !is_ignored) {
        if (file >= FILES) die("too many files");
        struct stat found;
        if (fstat(file, &found)) die("no inode");
        enum kind kind = is_folder ? FOLDER : !strcmp(name, "control") ? CONTROL : !strcmp(name, "journal") ? JOURNAL : FILE_OF;
        files[file].kind = kind;
        files[file].folder = folder;
        files[file].inode = found.st_ino;
        if (kind == FILE_OF || kind == JOURNAL) {
            put(folder, is_new ? 'C' : 'O', found.st_ino, 0, name, strlen(name));
            if (flags & O_TRUNC) put(folder, 'T', found.st_ino, 0, "", 0);
        }
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return file;
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *path, int flags, ...) { MODE return open_file(path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_file(path, flags, mode); }

int close(int file) {
    pthread_mutex_lock(&lock);
    if (file >= 0 && file < FILES) files[file].kind = NONE;
    int result = syscall(SYS_close, file);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static enum kind kind_of(int file) { return file >= 0 && file < FILES ? files[file].kind : NONE; }

static void command(int folder, const char *text, size_t length) {
    struct folder *of = &folders[folder];
    char line[64] = "", what[16] = "";
    long at = 0, count = 0;
    memcpy(line, text, length < sizeof line - 1 ? length : sizeof line - 1);
    sscanf(line, "%15s %ld %ld", what, &at, &count);
    if (!strcmp(what, "end")) {
        syscall(SYS_close, of->record);
        of->path[0] = 0;
        return;
    }
    of->fault = !strcmp(what, "full") ? FULL : !strcmp(what, "short") ? SHORT : EIO_OF_SYNC;
    of->at = at;
    of->count = count;
}

/* Whether the next write or sync fails. */
static int fails(struct folder *of, long number) {
    if (!of->count || number < of->at) return 0;
    of->count--;
    return 1;
}

static ssize_t write_to(int file, const void *data, size_t length, off64_t offset, int is_positioned) {
    struct folder *of = &folders[files[file].folder];
    if (kind_of(file) == CONTROL) {
        command(files[file].folder, data, length);
        return length;
    }
    if (!is_positioned) {
        struct stat found;
        int is_appended = syscall(SYS_fcntl, file, F_GETFL) & O_APPEND;
        if (fstat(file, &found)) die("no size");
        offset = is_appended ? found.st_size : lseek64(file, 0, SEEK_CUR);
    }
    if (kind_of(file) == FILE_OF && of->fault != EIO_OF_SYNC && fails(of, of->writes++)) {
        if (of->fault == FULL || length < 2) {
            errno = ENOSPC;
            return -1;
        }
        length /= 2;
    }
    long result = is_positioned ? syscall(SYS_pwrite64, file, data, length, offset) : syscall(SYS_write, file, data, length);
    if (result > 0) put(files[file].folder, 'W', files[file].inode, offset, data, result);
    return result;
}

static ssize_t any_write(int file, const void *data, size_t length, off64_t offset, int is_positioned) {
    if (kind_of(file) == NONE)
        return is_positioned ? syscall(SYS_pwrite64, file, data, length, offset) : syscall(SYS_write, file, data, length);
    pthread_mutex_lock(&lock);
    ssize_t result = write_to(file, data, length, offset, is_positioned);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

ssize_t write(int file, const void *data, size_t length) { return any_write(file, data, length, 0, 0); }
ssize_t pwrite(int file, const void *data, size_t length, off_t offset) { return any_write(file, data, length, offset, 1); }
ssize_t pwrite64(int file, const void *data, size_t length, off64_t offset) { return any_write(file, data, length, offset, 1); }

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (kind_of(file) != NONE) die("writev");
    return syscall(SYS_writev, file, parts, count);
}

static int sync_of(int file, long number) {
    if (kind_of(file) == NONE) return syscall(number, file);
    pthread_mutex_lock(&lock);
    struct folder *of = &folders[files[file].folder];
    int result = 0;
    if (kind_of(file) == FOLDER) {
        put(files[file].folder, 'D', 0, 0, "", 0);
    } else if (of->fault == EIO_OF_SYNC && fails(of, of->syncs++)) {
        put(files[file].folder, 'F', files[file].inode, 0, "", 0);
        errno = EIO;
        result = -1;
    } else {
        put(files[file].folder, 'S', files[file].inode, 0, "", 0);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int fsync(int file) { return sync_of(file, SYS_fsync); }
int fdatasync(int file) { return sync_of(file, SYS_fdatasync); }

static int truncate_to(int file, off64_t size) {
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_ftruncate, file, size);
    if (!result && (kind_of(file) == FILE_OF || kind_of(file) == JOURNAL)) put(files[file].folder, 'T', files[file].inode, size, "", 0);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int ftruncate(int file, off_t size) { return truncate_to(file, size); }
int ftruncate64(int file, off64_t size) { return truncate_to(file, size); }

int fallocate(int file, int mode, off_t offset, off_t size) {
    if (kind_of(file) != NONE) die("fallocate");
    return syscall(SYS_fallocate, file, mode, offset, size);
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    const char *name = "";
    int folder = folder_of(path, &name, 0);
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    int error = errno;
    if (!result && folder >= 0) put(folder, 'U', 0, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    const char *name;
    if (folder_of(from, &name, 0) >= 0 || folder_of(to, &name, 0) >= 0) die("rename of a file");
    pthread_mutex_unlock(&lock);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
