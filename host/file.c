#include "host/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/hardware.h"

enum { TEMPORARY_BYTES = 4096 };

/* ---- reading ------------------------------------------------------------------------------- */

static ohm_status too_long(const char *path, size_t limit)
{
    return OHM_FAIL(OHM_ERR_DATA, "%s: longer than %zu bytes, the most that is read here", path,
                    limit);
}

/* Reads to the end or one byte past the limit. The size is a first guess: pipes have none. */
static ohm_status read_all(int fd, char **data, size_t *bytes, const char *path, size_t size,
                           size_t limit)
{
    size_t room = 0, used = 0;
    char *buffer = NULL;
    for (;;) {
        if (used + 1 >= room) {
            room = room ? 2 * room : size + 2;
            if (room > limit + 2)
                room = limit + 2;
            char *grown = realloc(buffer, room);
            if (!grown) {
                free(buffer);
                return OHM_FAIL(OHM_ERR_MEMORY, "%s: no memory for %zu bytes", path, room);
            }
            buffer = grown;
        }
        ssize_t got = read(fd, buffer + used, room - 1 - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            free(buffer);
            return OHM_FAIL(OHM_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        used += (size_t)got;
        if (used > limit) {
            free(buffer);
            return too_long(path, limit);
        }
        if (got == 0)
            break;
    }
    buffer[used] = 0;
    *data = buffer;
    *bytes = used;
    return OHM_OK;
}

ohm_status ohm_file_read(char **data, size_t *bytes, const char *path, size_t limit)
{
    *data = NULL;
    *bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return OHM_FAIL(OHM_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat info;
    ohm_status status;
    if (fstat(fd, &info) != 0)
        status = OHM_FAIL(OHM_ERR_IO, "%s: cannot look at it: %s", path, strerror(errno));
    else if (S_ISDIR(info.st_mode))
        status = OHM_FAIL(OHM_ERR_IO, "%s: is a directory; name a file in it", path);
    else if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) /* /dev/zero never ends */
        status = OHM_FAIL(OHM_ERR_IO, "%s: is a device; name a file or a pipe", path);
    else if (S_ISREG(info.st_mode) && (size_t)info.st_size > limit)
        status = too_long(path, limit);
    else
        status = read_all(fd, data, bytes, path,
                          S_ISREG(info.st_mode) ? (size_t)info.st_size : 65536, limit);
    close(fd);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------- */

static int write_part(int fd, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t put = write(fd, data, bytes);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        data += put;
        bytes -= (size_t)put;
    }
    return 0;
}

/* Writes, syncs and closes; 0, or -1 with errno. */
static int write_parts(int fd, const ohm_file_part *parts, int count)
{
    int bad = 0;
    for (int i = 0; i < count && !bad; i++)
        bad = write_part(fd, parts[i].data, parts[i].bytes);
    if (!bad)
        bad = fsync(fd);
    int why = errno;
    if (close(fd) != 0 && !bad)
        return -1;
    errno = why;
    return bad;
}

/* A rename lives on the disk only once its folder does. Some file systems refuse to sync a folder
 * (EINVAL): then there is nothing more to do. */
static int sync_folder(const char *path)
{
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    snprintf(folder, sizeof folder, "%.*s", (int)n, path);
    int fd = open(n ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int bad = fsync(fd) != 0 && errno != EINVAL;
    close(fd);
    return bad ? -1 : 0;
}

static int open_temporary(char *temporary, size_t bytes, const char *path)
{
    for (int i = 0; i < 1000; i++) {
        snprintf(temporary, bytes, "%s.tmp-%ld-%d", path, (long)getpid(), i);
        int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* A temporary file beside `path`, open for writing. */
static ohm_status open_beside(int *fd, char *temporary, size_t size, const char *path)
{
    if (strlen(path) + 40 > size)
        return OHM_FAIL(OHM_ERR_IO, "the path of %zu bytes is too long to write to", strlen(path));
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return OHM_FAIL(OHM_ERR_IO,
                        "%s: is %s, not a file that can be replaced; choose another name", path,
                        S_ISDIR(info.st_mode) ? "a directory" : "a device or pipe");
    *fd = open_temporary(temporary, size, path);
    if (*fd < 0)
        return OHM_FAIL(OHM_ERR_IO, "%s: cannot write here: %s", path, strerror(errno));
    return OHM_OK;
}

ohm_status ohm_file_check_writable(const char *path)
{
    char temporary[TEMPORARY_BYTES];
    int fd;
    OHM_TRY(open_beside(&fd, temporary, sizeof temporary, path));
    close(fd);
    unlink(temporary);
    return OHM_OK;
}

ohm_status ohm_file_write_atomic(const char *path, const ohm_file_part *parts, int count)
{
    char temporary[TEMPORARY_BYTES];
    int fd;
    OHM_TRY(open_beside(&fd, temporary, sizeof temporary, path));
    if (write_parts(fd, parts, count) != 0 || rename(temporary, path) != 0) {
        int why = errno;
        unlink(temporary);
        return OHM_FAIL(OHM_ERR_IO, "%s: cannot write: %s", path, strerror(why));
    }
    if (sync_folder(path) != 0)
        return OHM_FAIL(OHM_ERR_IO, "%s: written, but its folder cannot be synced: %s", path,
                        strerror(errno));
    return OHM_OK;
}

ohm_status ohm_file_text_open(ohm_file_text *text, const char *path)
{
    *text = (ohm_file_text){0};
    text->stream = open_memstream(&text->data, &text->bytes);
    return text->stream ? OHM_OK : OHM_FAIL(OHM_ERR_MEMORY, "no memory for %s", path);
}

ohm_status ohm_file_text_write(ohm_file_text *text, const char *path)
{
    int whole = !ferror(text->stream);
    whole &= fclose(text->stream) == 0;
    const ohm_file_part part = {text->data, text->bytes};
    ohm_status status = whole ? ohm_file_write_atomic(path, &part, 1)
                              : OHM_FAIL(OHM_ERR_MEMORY, "no memory for %s", path);
    free(text->data);
    *text = (ohm_file_text){0};
    return status;
}

/* ---- names --------------------------------------------------------------------------------- */

ohm_status ohm_file_beside(char *path, size_t bytes, const char *of, const char *name)
{
    const char *slash = strrchr(of, '/');
    int folder = name[0] == '/' || !slash ? 0 : (int)(slash - of) + 1;
    int used = snprintf(path, bytes, "%.*s%s", folder, of, name);
    if (used < 0 || (size_t)used >= bytes)
        return OHM_FAIL(OHM_ERR_CONFIG, "the path '%.60s...' is longer than %zu bytes", name,
                        bytes - 1);
    return OHM_OK;
}

ohm_status ohm_file_make_folder(const char *path)
{
    char part[OHM_PATH_BYTES];
    struct stat info;
    if (*path == 0 || strlen(path) >= sizeof part)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "'%.60s': no path for a folder", path);
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1;; at++) {
        char end = *at;
        if (end && end != '/')
            continue;
        *at = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST)
            return OHM_FAIL(OHM_ERR_IO, "%s: cannot make the folder: %s; choose another --out", part, strerror(errno));
        if (!end)
            break;
        *at = end;
    }
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return OHM_FAIL(OHM_ERR_IO, "%s: is no folder; choose another --out", path);
    return OHM_OK;
}
