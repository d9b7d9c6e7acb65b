-- Delay before the next try after the p_failures-th failure (1 = first), by a step's stored policy:
-- {backoff, base_ms, max_ms, jitter}. Kinds and formulas are those of domain/retry.py, the tests' oracle:
-- none 0, constant b, linear b·n, exponential b·2^(n-1), fibonacci b·fib(n), all capped at max_ms;
-- jitter full: uniform in [0, d], equal: uniform in [d/2, d] (Brooker, "Exponential Backoff And Jitter").
-- No locks; random, so not repeatable where jitter is asked for.
create or replace function tasker.retry_delay(p_policy jsonb, p_failures integer)
returns interval
language plpgsql
volatile
as $$
declare
    -- beyond 2^62 the cap decides anyway
    v_n constant integer := least(p_failures, 62);
    v_base constant float8 := (p_policy ->> 'base_ms')::float8;
    v_delay float8;
begin
    v_delay := least(
        (p_policy ->> 'max_ms')::float8,
        case p_policy ->> 'backoff'
            when 'none' then 0
            when 'constant' then v_base
            when 'linear' then v_base * p_failures
            when 'exponential' then v_base * power(2::float8, v_n - 1)
            -- Binet's formula, exact in float8 far beyond any delay that the cap lets through
            when 'fibonacci' then v_base * round(power((1 + sqrt(5::float8)) / 2, v_n) / sqrt(5::float8))
        end);
    v_delay := case p_policy ->> 'jitter'
        when 'full' then v_delay * random()
        when 'equal' then v_delay / 2 + v_delay / 2 * random()
        else v_delay
    end;
    return v_delay * interval '1 millisecond';
end
$$;
