-- Whether a claim has other steps in progress than p_step: then nobody outside its worker knows which of them
-- has begun. Reads the open attempts of one worker. No locks.
create or replace function tasker.claim_is_shared(p_step bigint, p_worker integer, p_claim uuid)
returns boolean
language plpgsql
volatile
as $$
begin
    return exists (
        select 1
        from tasker.step_attempts
        where worker_id = p_worker and finished_at is null and claim_id = p_claim and step_id <> p_step);
end
$$;
