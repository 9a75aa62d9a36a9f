-- Suspects of each tenant in line: nobody's wait for those of another.
create index ready_suspects_of_tenants on waybill.ready (stage, tenant_id, since)
  where strikes >= 2;
