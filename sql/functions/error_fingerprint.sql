-- Sixteen hexadecimal digits, equal for errors that are alike: a hash over the error's type, its message
-- without what differs from case to case, and the innermost frame of the application's own code, where one
-- was recorded (`frame`). The one rule, for handlers' errors and for those of the engine.
--
-- From the first 1 000 characters of the message is removed, in this order: what stands in quotes, each word
-- with a digit in it (numbers, times, UUIDs, addresses, most hexadecimal), and words of eight or more letters
-- that are all hexadecimal. Reads nothing.
create or replace function tasker.error_fingerprint(p_error jsonb)
returns text
language plpgsql
immutable
as $$
declare
    v_message text := left(coalesce(p_error ->> 'message', ''), 1000);
begin
    -- a quote inside a word (can't) opens nothing
    v_message := regexp_replace(v_message, $re$(^|[^[:alnum:]])(['"`]).*?\2$re$, '\1', 'g');
    v_message := regexp_replace(v_message, '[[:alnum:]_-]*[0-9][[:alnum:]_-]*', '', 'g');
    v_message := regexp_replace(v_message, '\m[A-Fa-f]{8,}\M', '', 'g');
    v_message := btrim(regexp_replace(v_message, '\s+', ' ', 'g'));
    return left(
        encode(
            sha256(convert_to(
                concat_ws(E'\n', coalesce(p_error ->> 'type', ''), v_message, p_error ->> 'frame'), 'UTF8')),
            'hex'),
        16);
end
$$;
