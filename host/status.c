#include "host/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES = 1024 };
static _Thread_local char error_text[TEXT_BYTES];
static _Thread_local char error_origin[128];

/* A message is one line: names and contents of files may hold anything. */
static void keep_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127)
            *text = '?';
}

ohm_status ohm_fail_at(const char *file, int line, ohm_status code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error_text, sizeof error_text, format, args);
    va_end(args);
    keep_one_line(error_text);
    snprintf(error_origin, sizeof error_origin, "%s:%d", file, line);
    return code;
}

ohm_status ohm_error_prefix(ohm_status code, const char *format, ...)
{
    char old[TEXT_BYTES];
    memcpy(old, error_text, sizeof old);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(error_text, sizeof error_text, format, args);
    va_end(args);
    if (used >= 0 && used < TEXT_BYTES)
        snprintf(error_text + used, sizeof error_text - (size_t)used, ": %s", old);
    keep_one_line(error_text);
    return code;
}

const char *ohm_error_text(void)
{
    return error_text[0] ? error_text : "no error recorded";
}

const char *ohm_error_origin(void)
{
    return error_origin;
}
